"""What an order does to the stock: exercises 1 and 2 of TUTORIAL.md, for you to write."""

# Exercise 1: add a second handler for an order, beside send_receipt in orders.py.
# Hint: an `async def` that takes the event, with @on(OrderPlaced) above it.


# Exercise 2: let an order for 10 or more emit a new event, and add a handler for that event.
# Hint: a class in app/events.py, `await emit(...)` in your handler above, and one more @on(...).
