import s3fs

# Without a cache of listings, so that each look is a request.
fs = s3fs.S3FileSystem(use_listings_cache=False)


def write(text):
    with fs.open(f"{BUCKET}/{PREFIX}/{NAME}", "w") as file:
        file.write(text)


def read():
    assert fs.ls(f"{BUCKET}/{PREFIX}")
    with fs.open(f"{BUCKET}/{PREFIX}/{NAME}", "r") as file:
        return file.read()
