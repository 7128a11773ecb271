"""What the process holds after many events: it must stay flat. Run in a generated project."""

import asyncio
import gc
import re
import sys
from pathlib import Path
from uuid import uuid4

EVENTS = 1_000_000


def held() -> int:
    """Return the memory that this process holds, in KiB."""
    gc.collect()
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1])


async def emit_many(count: int) -> None:
    from app.bus import emit
    from app.events import OrderPlaced

    for _ in range(count):
        await emit(OrderPlaced(order_id=uuid4(), item="tea", quantity=2))


def measure(events: int = EVENTS) -> str:
    """Return the table of what is held after a hundredth of the events, and after all of them."""
    import app.main  # noqa: F401  (registers the listeners)

    rows = []
    done = 0
    for until in (events // 100, events // 10, events):
        asyncio.run(emit_many(until - done))
        done = until
        rows.append((until, held()))
    first = rows[0][1]
    lines = [f"| {until:,} | {kib / first:.3f} |" for until, kib in rows]
    return "\n".join(["| events so far | memory |", "|---|---|", *lines])


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    print(measure(*map(int, sys.argv[1:])), file=sys.stderr)  # stdout has the receipts
