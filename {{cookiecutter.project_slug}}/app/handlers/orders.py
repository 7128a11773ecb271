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
    await emit(OrderPlaced(order_id=order_id, item=order.item, quantity=order.quantity))
    return {"order_id": order_id}


@on(OrderPlaced)
async def send_receipt(event: OrderPlaced) -> str:
    print(f"Receipt for order {event.order_id}", flush=True)
    return "Receipt sent"
