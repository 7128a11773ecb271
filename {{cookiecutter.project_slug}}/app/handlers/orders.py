"""A request that becomes an event: the route says what happened, a listener does the rest."""

from uuid import UUID, uuid4

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.bus import emit, on
from app.events import OrderPlaced

router = APIRouter()


class Order(BaseModel):
    item: str = Field(min_length=1)
    quantity: int = Field(ge=1)


@router.post("/orders", status_code=201)
async def place_order(order: Order) -> dict[str, UUID]:
    order_id = uuid4()
    # % if cookiecutter.lesson == "solution"
    try:
        await emit(OrderPlaced(order_id=order_id, item=order.item, quantity=order.quantity))
    except* Exception:
        pass  # emit has logged it: the order stands, whatever its listeners do
    # % else
    await emit(OrderPlaced(order_id=order_id, item=order.item, quantity=order.quantity))
    # % endif
    return {"order_id": order_id}


# % if cookiecutter.lesson == "solution"
sent: set[UUID] = set()  # the orders that have their receipt; a restart forgets them


# % endif
@on(OrderPlaced)
async def send_receipt(event: OrderPlaced) -> str:
    # % if cookiecutter.lesson == "solution"
    if event.order_id in sent:
        return "Receipt sent already"
    sent.add(event.order_id)
    # % endif
    print(f"Receipt for order {event.order_id}", flush=True)
    return "Receipt sent"
