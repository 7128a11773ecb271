"""What is done when something happens. Add a file here, or a folder of files: it's imported."""

from importlib import import_module
from pathlib import Path

from fastapi import APIRouter

routers: list[APIRouter] = []
for path in sorted(Path(__file__).parent.rglob("[!._]*.py"), key=Path.as_posix):
    parts = path.relative_to(Path(__file__).parent).with_suffix("").parts
    module = import_module(".".join((__name__, *parts)))
    if isinstance(router := getattr(module, "router", None), APIRouter):
        routers.append(router)
