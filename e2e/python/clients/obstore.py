import obstore
from obstore.store import S3Store

s3 = S3Store(BUCKET, prefix=PREFIX)


def write(text):
    obstore.put(s3, NAME, text.encode())


def read():
    return bytes(obstore.get(s3, NAME).bytes()).decode()
