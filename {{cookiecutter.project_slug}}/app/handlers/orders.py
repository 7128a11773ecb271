"""A request that becomes an event: the route says what happened, a listener does the rest."""

# % if cookiecutter.lesson == "solution" and cookiecutter.broker != "none"
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
# % endif
from uuid import UUID, uuid4

# % if cookiecutter.broker == "postgres"
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from app import models
from app.bus import emit, on
from app.database import SessionDep
from app.events import OrderPlaced

# % else
from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.bus import emit, on
from app.events import OrderPlaced

# % endif
router = APIRouter()


# % if cookiecutter.broker == "postgres"
class Order(BaseModel):
    item: str = Field(min_length=1, pattern=r"^[^\x00]*$")  # PostgreSQL's text has no NUL
    quantity: int = Field(ge=1, lt=2**31)


@router.post("/orders", status_code=201)
async def place_order(order: Order, session: SessionDep) -> dict[str, UUID]:
    order_id = uuid4()
    session.add(models.Order(id=order_id, item=order.item, quantity=order.quantity))
    # % if cookiecutter.lesson == "solution"
    try:
        await emit(OrderPlaced(order_id=order_id, item=order.item, quantity=order.quantity))
    except ExceptionGroup:  # emit has logged it: the order stands, whatever its listeners do
        return {"order_id": order_id}
    # % else
    await emit(OrderPlaced(order_id=order_id, item=order.item, quantity=order.quantity))
    # % endif
    return {"order_id": order_id}


@router.get("/orders/{order_id}", responses={404: {"description": "There's no such order."}})
async def read_order(order_id: UUID, session: SessionDep) -> Order:
    found = await session.get(models.Order, order_id)
    if found is None:
        raise HTTPException(404, "There's no such order.")
    return Order(item=found.item, quantity=found.quantity)


# % else
class Order(BaseModel):
    item: str = Field(min_length=1)
    quantity: int = Field(ge=1)


@router.post("/orders", status_code=201)
async def place_order(order: Order) -> dict[str, UUID]:
    order_id = uuid4()
    # % if cookiecutter.lesson == "solution"
    try:
        await emit(OrderPlaced(order_id=order_id, item=order.item, quantity=order.quantity))
    except ExceptionGroup:  # emit has logged it: the order stands, whatever its listeners do
        return {"order_id": order_id}
    # % else
    await emit(OrderPlaced(order_id=order_id, item=order.item, quantity=order.quantity))
    # % endif
    return {"order_id": order_id}


# % endif
# % if cookiecutter.lesson == "solution" and cookiecutter.broker != "none"
SENT = Path(__file__).resolve().parents[2] / "receipts.sqlite3"


@contextmanager
def receipts() -> Iterator[sqlite3.Connection]:
    """Open the table of orders that have a receipt. It's on disk, so it outlives the process."""
    with closing(sqlite3.connect(SENT)) as memory, memory:  # the second one commits
        memory.execute("CREATE TABLE IF NOT EXISTS sent (order_id TEXT PRIMARY KEY)")
        yield memory


# % elif cookiecutter.lesson == "solution"
sent: set[UUID] = set()  # the orders that have their receipt; a restart forgets them


# % endif
@on(OrderPlaced)
async def send_receipt(event: OrderPlaced) -> str:
    # % if cookiecutter.lesson == "solution" and cookiecutter.broker != "none"
    order = (str(event.order_id),)
    with receipts() as memory:
        if memory.execute("SELECT 1 FROM sent WHERE order_id = ?", order).fetchone():
            return "Receipt sent already"
        print(f"Receipt for order {event.order_id}", flush=True)
        memory.execute("INSERT INTO sent VALUES (?)", order)  # after the print: it may fail
    # % elif cookiecutter.lesson == "solution"
    if event.order_id in sent:
        return "Receipt sent already"
    sent.add(event.order_id)
    print(f"Receipt for order {event.order_id}", flush=True)
    # % else
    print(f"Receipt for order {event.order_id}", flush=True)
    # % endif
    return "Receipt sent"
