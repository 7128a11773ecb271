"""A delivery arrives: a route that emits an event, and the handler for it."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.bus import emit, on
from app.events import DeliveryArrived

router = APIRouter()


class Delivery(BaseModel):
    item: str = Field(min_length=1)
    quantity: int = Field(ge=1)


@router.post("/deliveries", status_code=202)
async def take_delivery(delivery: Delivery) -> dict[str, str]:
    await emit(DeliveryArrived(item=delivery.item, quantity=delivery.quantity))
    return {"message": "Delivery taken"}


@on(DeliveryArrived)
async def fill_shelf(event: DeliveryArrived) -> str:
    print("Shelf filled", flush=True)
    return "Shelf filled"
