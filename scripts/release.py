"""Check that a tag fits pyproject.toml and CHANGELOG.md, and print its entry: uv run python scripts/release.py v1.0.0"""

import re
import sys
import tomllib
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent


def entry(tag: str, version: str, changelog: str) -> str:
    """Return what the newest entry of the changelog says; raise ValueError if it isn't the tag's."""
    newest = re.search(r"^## (\S+).*\n((?:(?!## ).*\n)*)", changelog, re.M)
    heading, text = newest.groups() if newest else ("no version", "")
    if not tag == f"v{version}" == f"v{heading}":
        said = f"The tag is {tag}, pyproject.toml has {version}, CHANGELOG.md begins with {heading}"
        raise ValueError(f"{said}: all three must name one version, as in v1.0.0, 1.0.0, 1.0.0.")
    if not text.strip():
        raise ValueError(f"CHANGELOG.md says nothing about {version}: write what has changed.")
    return re.sub(r"\n +(?=[^\s`-])", " ", text.strip())  # a release's page breaks lines there


if __name__ == "__main__":
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (TEMPLATE / "CHANGELOG.md").read_text(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    try:
        print(entry(sys.argv[1], project["version"], changelog))
    except ValueError as error:
        sys.exit(str(error))
