"""Lets cookiecutter refuse bad answers as soon as they are given, before it makes a folder.

The rules are those of hooks/pre_gen_project.py, which also guards `cookiecutter --replay`.
"""

import runpy
from collections.abc import Mapping
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

HOOK = Path(__file__).parent / "hooks" / "pre_gen_project.py"


def check_answers(answers: Mapping[str, str]) -> str:
    """Return nothing to render for good answers; raise FailedHookException for bad ones."""
    if sentence := runpy.run_path(str(HOOK))["refusal"](answers):
        raise FailedHookException(sentence)
    return ""


class CheckAnswers(Extension):
    """Adds the filter `check_answers`, which cookiecutter.json uses after the last question."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters["check_answers"] = check_answers
