import numpy as np
import os
import xarray as xr
SCRATCH_BUCKET = os.environ['SCRATCH_BUCKET']
ds = xr.Dataset({"Tair": (("time", "y", "x"), np.random.rand(36, 205, 275))})  # made here, not downloaded
ds.to_zarr(f'{SCRATCH_BUCKET}/rasm.zarr')  # write data
print("written:", f'{SCRATCH_BUCKET}/rasm.zarr')
