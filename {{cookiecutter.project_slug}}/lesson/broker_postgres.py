"""A PostgreSQL server for the second day, as the tests have it: python -m lesson broker."""

import runpy
import sys

from lesson.course import ROOT


def serve(fresh: bool, port: int) -> None:
    """Run the server until Ctrl+C; start with an empty database if `fresh`."""
    program = ROOT / "tests" / "postgres.py"
    sys.argv = [program.name, "--port", str(port), *["--fresh"] * fresh]
    runpy.run_path(str(program), run_name="__main__")
