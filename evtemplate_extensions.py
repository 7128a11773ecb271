"""Takes answers as they are typed, and refuses bad ones before cookiecutter makes a folder."""

import json
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

HERE = Path(__file__).parent
HOOKS = {path.stem: path.read_text(encoding="utf-8") for path in (HERE / "hooks").glob("*.py")}


def texts(value: Any) -> Iterator[str]:
    """Yield each text in a JSON document."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


class Answers(Extension):
    """Keeps answers from being run as templates; adds the filter `check_answers`.

    Cookiecutter renders an answer from the command line or a config file as if it were a template.
    Here only the texts of cookiecutter.json, the hooks and the folder's name are templates.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters["check_answers"] = check_answers
        questions = json.loads((HERE / "cookiecutter.json").read_text(encoding="utf-8"))
        self.templates = {*texts(questions), *HOOKS.values(), "{{cookiecutter.project_slug}}"}

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return `source` as a template that renders to it, unless it is one of ours."""
        if name is not None or source in self.templates:
            return source
        return "{{ " + json.dumps(source, ensure_ascii=False) + " }}"


def check_answers(answers: Mapping[str, str]) -> str:
    """Return nothing to render for good answers; raise FailedHookException for bad ones.

    The rules are those of the hook that guards `cookiecutter --replay`, too.
    """
    rules = runpy.run_path(str(HERE / "hooks" / "pre_gen_project.py"))
    if sentence := rules["refusal"](answers):
        raise FailedHookException(sentence)
    return ""
