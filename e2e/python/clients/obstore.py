import obstore
from obstore.store import S3Store

# The store of this platform has no TLS, which object_store does not take by itself.
s3 = S3Store(BUCKET, prefix=PREFIX, client_options={"allow_http": True})


def write(text):
    obstore.put(s3, NAME, text.encode())


def read():
    return bytes(obstore.get(s3, NAME).bytes()).decode()
