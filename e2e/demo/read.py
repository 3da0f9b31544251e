import os
import xarray as xr
ds = xr.open_zarr(f"{os.environ['SCRATCH_BUCKET']}/rasm.zarr")
print(ds.Tair.data)
print("mean:", float(ds.Tair.mean().compute()))
