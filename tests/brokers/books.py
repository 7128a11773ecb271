"""What the tests of broker=postgres add to the service: a listener that looks for its order.

It's copied to app/handlers/, and writes what it found to the file JOBS_LOG with .orders added.
"""

import os

from app import models
from app.bus import on
from app.database import transaction
from app.events import OrderPlaced

log = os.open(os.environ["JOBS_LOG"] + ".orders", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


@on(OrderPlaced)
async def book(event: OrderPlaced) -> None:
    async with transaction() as session:
        found = await session.get(models.Order, event.order_id)
    os.write(log, f"{event.order_id} {'booked' if found else 'missing'}\n".encode())
