"""The broker's server comes as a container: python -m lesson broker says what to type."""

import re

from app.messaging.settings import EXAMPLE_URL
from lesson.course import ROOT, read


def serve(fresh: bool) -> None:
    """Print the command that starts the server, and empties it first if `fresh`."""
    found = re.search(r"^  (\w+):\n    image:", read(ROOT / "compose.yaml"), re.MULTILINE)
    print("This broker comes as a container. Type:\n")
    if fresh:
        print("    docker compose down --volumes")
    print(f"    docker compose up --detach --wait {found[1] if found else 'broker'}\n")
    print(f"BROKER_URL={EXAMPLE_URL}")
