"""A request that becomes an event: the route says what happened, a listener does the rest."""

from typing import Annotated
from uuid import UUID, uuid4

from pydantic import BaseModel, Field

from app.bus import emit, on
from app.events import OrderPlaced
from app.main import app


class Order(BaseModel):
    item: Annotated[str, Field(min_length=1)]
    quantity: Annotated[int, Field(ge=1)]


@app.post("/orders", status_code=201)
async def place_order(order: Order) -> dict[str, UUID]:
    order_id = uuid4()
    await emit(OrderPlaced(order_id=order_id, item=order.item, quantity=order.quantity))
    return {"order_id": order_id}


@on(OrderPlaced)
async def send_receipt(event: OrderPlaced) -> str:
    print(f"Receipt for order {event.order_id}", flush=True)
    return "Receipt sent"
