import pyarrow.fs

# Made so, it reads no variable for the address; made from a URL it does.
s3 = pyarrow.fs.S3FileSystem(endpoint_override=ENDPOINT)


def write(text):
    with s3.open_output_stream(f"{BUCKET}/{PREFIX}/{NAME}") as file:
        file.write(text.encode())


def read():
    with s3.open_input_stream(f"{BUCKET}/{PREFIX}/{NAME}") as file:
        return file.read().decode()
