"""Takes answers as they are typed, and refuses bad ones before cookiecutter makes a folder."""

import json
import re
import runpy
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

# Read at once: `cruft update` keeps this module for a checkout that may be gone by then.
RULES = runpy.run_path(str(Path(__file__).parent / "hooks" / "pre_gen_project.py"))
FOLDER = "{{cookiecutter.project_slug}}"
ROOM = 2**20  # bytes: more than a project takes on any disk


class Answers(Extension):
    """Keeps answers from being run as templates; adds filters that refuse what is bad.

    Cookiecutter renders an answer from the command line or a config file as if it were a template.
    Here only the expressions of cookiecutter.json, the folder's name and the hooks are templates.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters["check_answers"] = check_answers
        environment.filters["check_room"] = check_room

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return `source` as a template that renders to it, unless it is one of ours."""
        if source == FOLDER:  # rendered once, just before cookiecutter makes that folder
            return "{{ cookiecutter | check_room }}" + source
        is_file = name is not None
        is_hook = "{{ cookiecutter | tojson }}" in source
        if is_file or is_hook or re.fullmatch(r"\{\{ ?cookiecutter\b[^{}]*\}\}", source):
            return source
        return "{{ " + json.dumps(source, ensure_ascii=False) + " }}"


def check_answers(answers: Mapping[str, str]) -> str:
    """Return nothing to render for good answers; raise FailedHookException for bad ones.

    The rules are those of the hook, which sees the answers of `cookiecutter --replay`, too.
    """
    if sentence := RULES["refusal"](answers):
        raise FailedHookException(sentence)
    return ""


def check_room(answers: Mapping[str, str]) -> str:
    """Return nothing to render if the output folder can take a project.

    Raises FailedHookException if it is read-only or full: cookiecutter would stop half-way.
    """
    if "_output_dir" not in answers:  # as in cruft, which works in a folder of its own
        return ""
    wanted = Path(answers["_output_dir"])
    folder = next((path for path in (wanted, *wanted.parents) if path.is_dir()), wanted)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
    except OSError as error:
        what = f"{str(folder)!a} cannot take the project ({error.strerror})"
        raise FailedHookException(
            f"{what}: make room in it, or choose another folder with --output-dir."
        ) from None
    return ""
