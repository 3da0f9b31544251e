# Makes a notebook server's root of a fresh Debian, in a chroot and without a network.

python3 -m venv /opt/notebook
/opt/notebook/bin/pip install --no-index --find-links=/wheels --no-deps --no-compile \
    --no-cache-dir --disable-pip-version-check --requirement=/wheels/requirements.txt

echo 'jovyan:x:1000:100::/home/jovyan:/bin/bash' >> /etc/passwd
echo 'jovyan:!:1:0:99999:7:::' >> /etc/shadow
install --directory --owner=1000 --group=100 --mode=0750 /home/jovyan

# Nobody reads these here, and half of the gigabyte of tests is pandas'.
packages=/opt/notebook/lib/python3.11/site-packages
rm -rf /wheels /usr/share/doc/* /usr/share/info/* /usr/share/locale/* /usr/share/man/*
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/*
rm -rf "$packages"/dask/tests "$packages"/distributed/tests "$packages"/pandas/tests \
    "$packages"/pyarrow/tests "$packages"/pyarrow/include "$packages"/xarray/tests

# What tells when and where the image was made.
find /var/log /var/cache/ldconfig -type f -delete
rm -f /etc/hostname /etc/resolv.conf /etc/apt/sources.list /etc/machine-id /etc/*- \
    /var/lib/dpkg/*-old
sed --in-place --regexp-extended 's/^([^:]*:[^:]*):[0-9]*:/\1:1:/' /etc/shadow

# A server that compiles what it imports takes seconds longer to start, each time, as its user may
# not write here. By hash, because times are lost in the image; unchecked, because nothing changes.
find / -xdev -name __pycache__ -prune -exec rm -rf {} +
PYTHONHASHSEED=0 /opt/notebook/bin/python -m compileall -q -j 0 \
    --invalidation-mode=unchecked-hash /usr/lib/python3.11 /usr/lib/python3 "$packages" ||
    echo 'some files are templates, and compile with no Python'
