"""Cases as data: a TOML file holds one set, a table of it one case."""

import tomllib
from pathlib import Path
from typing import Any


def cases(test: str, name: str) -> dict[str, Any]:
    """Return the cases of NAME.toml beside a test's file (its `__file__`), by their names."""
    return tomllib.loads(Path(test).with_name(f"{name}.toml").read_text(encoding="utf-8"))
