"""Routes and listeners. Every file here or in a subfolder is imported."""

from importlib import import_module
from pathlib import Path

from fastapi import APIRouter

routers: list[APIRouter] = []
for path in sorted(Path(__file__).parent.rglob("*.py"), key=Path.as_posix):
    parts = path.relative_to(Path(__file__).parent).with_suffix("").parts
    names = [part for part in parts if part != "__init__"]
    if names and not any(name.startswith((".", "_")) for name in names):
        module = import_module(".".join((__name__, *names)))
        if (router := getattr(module, "router", None)) and router not in routers:
            routers.append(router)
