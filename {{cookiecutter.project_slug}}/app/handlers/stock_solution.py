"""What an order does to the stock: a handler that may emit an event, and the handler for it."""

from app.bus import emit, on
from app.events import OrderPlaced, StockRanLow

MANY = 10  # an order for this many leaves little on the shelf


@on(OrderPlaced)
async def reserve_stock(event: OrderPlaced) -> str:
    print(f"Reserved {event.quantity} of {event.item}", flush=True)
    if event.quantity >= MANY:
        await emit(StockRanLow(item=event.item))
    return "Stock reserved"


@on(StockRanLow)
async def reorder_stock(event: StockRanLow) -> str:
    print(f"Reordered {event.item}", flush=True)
    return "Stock reordered"
