"""What the tests of broker=postgres add to the service: a route with a session, for each ending.

It's copied to app/handlers/. Each listener writes the id of its order to the file JOBS_LOG.
"""

import os
from uuid import UUID, uuid4

from fastapi import APIRouter, HTTPException

from app import models
from app.bus import emit, on
from app.database import SessionDep, transaction
from app.events import IntegrationEvent, OrderPlaced

router = APIRouter()
log = os.open(os.environ["JOBS_LOG"] + ".orders", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class Booked(IntegrationEvent):
    """An order is in the books."""

    order_id: UUID


@on(OrderPlaced)
async def book(event: OrderPlaced) -> None:
    async with transaction() as session:
        if await session.get(models.Order, event.order_id) is None:
            os.write(log, f"{event.order_id} missing\n".encode())
        await emit(Booked(order_id=event.order_id))
        if event.item == "broken":
            raise ValueError("after emit")


@on(Booked)
async def note(event: Booked) -> None:
    os.write(log, f"{event.order_id} booked\n".encode())


@router.post("/book")
async def place(ending: str, session: SessionDep) -> UUID:
    id = uuid4()
    item = "broken" if ending == "listener" else "tea"
    session.add(models.Order(id=id, item=item, quantity=1))
    await emit(OrderPlaced(order_id=id, item=item, quantity=1))
    if ending == "error":
        raise ValueError("after emit")
    if ending == "refusal":
        raise HTTPException(409)
    if ending == "rollback":
        await session.rollback()
    if ending == "commit":  # it fails: the key is there
        session.add(models.Order(id=id, item=item, quantity=1))
    return id
