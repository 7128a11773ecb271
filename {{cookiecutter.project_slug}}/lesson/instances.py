"""With a broker: which deliveries were handled by which instance on this machine."""

import asyncio
from contextlib import suppress
from datetime import datetime
from operator import itemgetter
from typing import Any

from app import bus
from app.events import Event, IntegrationEvent
from app.messaging.delivery import attempt_number

LOOK = 1.0  # seconds between two looks at what other processes wrote
HANDLED = 50  # rows of the instances' table
Row = dict[str, Any]  # as the recorder keeps it


def connected() -> bool:
    """Return whether a broker carries events from process to process."""
    return bus.publish is not None


def published(event: Event) -> bool:
    """Return whether `event` goes to a broker, which then calls its listeners."""
    return connected() and isinstance(event, IntegrationEvent)


def attempt_of(event: Event) -> int | None:
    """Return how often a broker has delivered `event` to the listener that's handling it."""
    return attempt_number.get(None) if published(event) else None


async def changed_or_due(changed: asyncio.Event) -> None:
    """Wait until something changes in this process, or it's time to look at the others."""
    with suppress(TimeoutError):
        await asyncio.wait_for(changed.wait(), LOOK if connected() else None)


def handled(recorded: list[Row], began: datetime) -> list[Row] | None:
    """Return the last calls of listeners since `began`, oldest first; None without a broker."""
    if not connected():
        return None
    rows = [
        row | {"process": row["run"].rpartition("-")[2]}
        for row in recorded
        if row["type"] not in ("request", "Startup", "Shutdown")
    ]
    senders = {_id(row): row["process"] for row in rows if row["listener"] is None}
    since = began.isoformat(timespec="milliseconds")
    called = [row for row in rows if row["listener"] and row["time"] >= since]
    called.sort(key=itemgetter("time"))
    return [row | {"sent_by": senders.get(_id(row))} for row in called[-HANDLED:]]


def _id(row: Row) -> object:
    """Return what identifies an event in all processes."""
    return row["type"], (row["fields"] or {}).get("id", (row["run"], row["sequence"]))
