import os
import sys

NAME = sys.argv[1]
BUCKET, PREFIX = os.environ["SCRATCH_BUCKET"].removeprefix("s3://").split("/", 1)
ENDPOINT = os.environ["AWS_ENDPOINT_URL_S3"]

# What libraries print, such as DuckDB its progress on a busy machine, is no answer.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
