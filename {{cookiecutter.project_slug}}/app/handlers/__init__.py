"""What is done when something happens. Each file here is found by itself: just add one."""

from importlib import import_module
from pkgutil import iter_modules


def load() -> None:
    """Import each file of this folder: that registers its listeners and its routes."""
    for file in iter_modules(__path__):
        import_module(f"{__name__}.{file.name}")
