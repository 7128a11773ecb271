"""Refuse bad answers with one sentence that says what to type."""

import json
import re
import sys
import unicodedata
from collections.abc import Mapping

# The package would stand in the way of a dependency that has the same name.
DEPENDENCIES = {
    "aio-pika",
    "aiokafka",
    "aiormq",
    "annotated-doc",
    "annotated-types",
    "anyio",
    "async-timeout",
    "certifi",
    "click",
    "colorama",
    "fast-depends",
    "fastapi",
    "fastapi-cli",
    "faststream",
    "h11",
    "httpcore2",
    "httptools",
    "httpx2",
    "httpx2-jsfetch",
    "idna",
    "iniconfig",
    "markdown-it-py",
    "mdurl",
    "multidict",
    "nats-py",
    "opentelemetry-api",
    "packaging",
    "pamqp",
    "pluggy",
    "propcache",
    "pydantic",
    "pydantic-core",
    "pygments",
    "pytest",
    "python-dotenv",
    "pyyaml",
    "redis",
    "rich",
    "rich-toolkit",
    "ruff",
    "shellingham",
    "starlette",
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
    """Return the sentence that refuses `answers`, or None if they are good."""
    slug = answers["project_slug"]
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,58}[a-z0-9])?", slug):
        what = "lower-case letters, digits and hyphens, a letter first, 60 at most"
        return f"project_slug: type {what}, such as event-service; {shown(slug)} will not do."
    if RESERVED_BY_WINDOWS.fullmatch(slug):
        return f"project_slug: type another name; Windows keeps {shown(slug)} for itself."
    if slug in DEPENDENCIES:
        return f"project_slug: type another name; the project needs the package {shown(slug)}."
    for question in ("project_name", "description", "author_name"):
        text = answers[question]
        if any(c in '"\\{}' or unicodedata.category(c) in LINE_BREAKS_AND_CONTROLS for c in text):
            what = "text on one line, without double quotes, backslashes and braces"
            return f"{question}: type {what}; {shown(text)} will not do."
        if len(text) > 200:
            return f"{question}: type 200 characters at most; {shown(text)} has {len(text)}."
    if not answers["project_name"].strip():
        return "project_name: type a name, such as Event Service; it is empty."
    return None


def shown(text: str) -> str:
    """Return `text` as it can be printed: quoted, and cut if it is long."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 70 else f"{quoted[:60]}...{quoted[0]}"


if __name__ == "__main__":
    if sentence := refusal(json.loads(r"""{{ cookiecutter | tojson }}""")):
        sys.exit(sentence)
