"""How Alembic reaches the database: by BROKER_URL, as the service does."""

import asyncio
import logging
import sys

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.database import make_engine
from app.messaging.delivery import EventNotStored
from app.messaging.settings import EXAMPLE_URL, BrokerUnavailable, load, settings
from app.models import Base

logging.basicConfig(format="%(levelname)-5.5s [%(name)s] %(message)s")
logging.getLogger("alembic").setLevel(logging.INFO)


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    load()
    if not settings.url:
        sys.exit(f"Set BROKER_URL, for example {EXAMPLE_URL}. SQLite needs no migration.")
    engine = make_engine()
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


try:
    asyncio.run(main())
except BrokerUnavailable as error:
    sys.exit(str(error))
except EventNotStored as error:
    sys.exit(f"{error}: start PostgreSQL, or correct BROKER_URL.")
except DBAPIError as error:
    if getattr(error.orig, "sqlstate", "") != "42501":  # it lacks a right
        raise
    sys.exit(f"{error.orig}: as the owner, GRANT that to the user of BROKER_URL.")
