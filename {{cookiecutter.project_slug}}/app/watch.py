"""Look at what the bus does, from a test or a tool; it costs nothing while nobody looks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app import bus
from app.events import Event


class Watcher:
    """Sees what the bus does. Override what you need, then `with watch(YourWatcher()):`."""

    def emitted(self, event: Event) -> None:
        """`event` was emitted; the calls of its listeners, if it has any, come next."""

    async def call(self, listener: bus.Listener, proceed: bus.Listener, event: Event) -> Any:
        """Stand around one call of `listener`: await `proceed(event)`, return what it returns."""
        return await proceed(event)


@contextmanager
def watch(watcher: Watcher) -> Iterator[None]:
    """Let `watcher` see what happens while the `with` block runs."""
    bus.watchers.append(watcher)
    bus.calls.clear()
    try:
        yield
    finally:
        bus.watchers.remove(watcher)
        bus.calls.clear()
