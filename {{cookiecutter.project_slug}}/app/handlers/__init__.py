"""What is done when something happens. Each file here is found by itself: just add one."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from fastapi import APIRouter


def load() -> Iterator[APIRouter]:
    """Import each file of this folder, so that its listeners are registered; yield its router."""
    for file in iter_modules(__path__):
        module = import_module(f"{__name__}.{file.name}")
        if isinstance(router := getattr(module, "router", None), APIRouter):
            yield router
