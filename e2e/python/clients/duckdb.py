import pathlib
import urllib.parse

import duckdb
import duckdb_extension_aws
import duckdb_extension_httpfs

database = duckdb.connect()
for package in (duckdb_extension_httpfs, duckdb_extension_aws):
    (extension,) = pathlib.Path(package.__file__).parent.rglob("*.duckdb_extension")
    database.execute(f"LOAD '{extension}'")
# It reads no variable for the endpoint, and looks for new credentials only where it is told to: then
# whenever the store refuses those that it has.
endpoint = urllib.parse.urlsplit(ENDPOINT)
database.execute(
    f"""CREATE SECRET (TYPE s3, PROVIDER credential_chain, REFRESH auto, URL_STYLE path,
        ENDPOINT '{endpoint.netloc}', USE_SSL {endpoint.scheme == "https"})"""
)


def write(text):
    database.execute(f"COPY (SELECT '{text}' AS text) TO 's3://{BUCKET}/{PREFIX}/{NAME}' (FORMAT parquet)")


def read():
    ((text,),) = database.execute(f"SELECT text FROM read_parquet('s3://{BUCKET}/{PREFIX}/{NAME}')").fetchall()
    return text
