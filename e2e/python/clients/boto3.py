import boto3

s3 = boto3.client("s3")


def write(text):
    s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{NAME}", Body=text.encode())


def read():
    return s3.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{NAME}")["Body"].read().decode()
