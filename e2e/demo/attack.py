import boto3
from botocore.exceptions import ClientError

s3 = boto3.client("s3")


def attempts(victim, source):
    """Every call names one prefix or key of `victim`; `source` is a key that bob may read or not."""
    key = f"{victim}/rasm.zarr/zarr.json"
    return {
        "list": lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{victim}/"),
        "write": lambda: s3.put_object(Bucket=BUCKET, Key=f"{victim}/new", Body=b"bob was here"),
        "overwrite": lambda: s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}"),
        "read": lambda: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read(),
        "copy": lambda: s3.copy_object(Bucket=BUCKET, Key="bob/loot", CopySource={"Bucket": BUCKET, "Key": source}),
        "delete": lambda: s3.delete_object(Bucket=BUCKET, Key=key),
        "delete in bulk": lambda: refused_keys(s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key}]})),
    }


def refused_keys(answer):
    for error in answer.get("Errors", []):
        raise ClientError({"Error": error}, "DeleteObjects")


for name, call in attempts("bob", "bob/rasm.zarr/zarr.json").items():
    call()
    print(f"bob/    {name:15} allowed")
for name, call in attempts("alice", "alice/rasm.zarr/zarr.json").items():
    try:
        call()
        print(f"alice/  {name:15} REACHED")
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        print(f"alice/  {name:15} refused (AccessDenied)")
