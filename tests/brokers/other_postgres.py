"""A program that knows CloudEvents and SQL, and not us: other_postgres.py URL PLACE read|send."""

import asyncio
import sys

import asyncpg

READ = """
DELETE FROM {schema}.events WHERE id = (
    SELECT id FROM {schema}.events WHERE listener = 'other' ORDER BY id LIMIT 1
) RETURNING convert_from(document, 'UTF8')
"""
AS_IT_IS = """
INSERT INTO {schema}.events (listener, document)
SELECT listener, $1 FROM {schema}.subscriptions WHERE type = 'Job'
"""


async def main(url: str, service: str, what: str) -> None:
    connection = await asyncpg.connect(url)
    schema = f"mq_{service.replace('-', '_')}"
    if what == "read":
        subscribe = f"INSERT INTO {schema}.subscriptions VALUES ('other', 'Job')"
        await connection.execute(subscribe)
        print("ready", flush=True)
        while not (document := await connection.fetchval(READ.format(schema=schema))):
            await asyncio.sleep(0.1)
        print(document, flush=True)
    else:
        for line in sys.stdin.buffer.read().split(b"\n"):
            try:
                text = line.decode()
            except ValueError:  # the function takes text alone
                await connection.execute(AS_IT_IS.format(schema=schema), line)
            else:
                await connection.execute(f"SELECT {schema}.publish('Job', $1)", text)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
