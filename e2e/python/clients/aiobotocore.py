import asyncio

from aiobotocore.session import get_session

loop = asyncio.new_event_loop()
s3 = loop.run_until_complete(get_session().create_client("s3").__aenter__())


def write(text):
    put = s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{NAME}", Body=text.encode())
    loop.run_until_complete(put)


def read():
    async def get():
        answer = await s3.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{NAME}")
        return (await answer["Body"].read()).decode()

    return loop.run_until_complete(get())
