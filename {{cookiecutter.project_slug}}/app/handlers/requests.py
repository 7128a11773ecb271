"""Row 2 of the execution table: a user sends a request."""

from app.main import app


@app.get("/")
async def read_root() -> dict[str, str]:
    return {"message": "Response sent"}
