"""Row 2 of the execution table: a user sends a request."""

from fastapi import APIRouter

router = APIRouter()


@router.get("/")
async def read_root() -> dict[str, str]:
    return {"message": "Response sent"}
