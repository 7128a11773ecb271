"""Takes answers as they are typed, and refuses bad ones before cookiecutter makes a folder."""

import json
import re
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

FOLDER = "{{cookiecutter.project_slug}}"
RULES = runpy.run_path(str(Path(__file__).parent / "hooks" / "pre_gen_project.py"))


class Answers(Extension):
    """Keeps answers from being run as templates; adds the filter that refuses bad ones.

    Cookiecutter renders an answer from the command line or a config file as if it were a template.
    Here only files, hooks and the expressions of cookiecutter.json are templates.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters["check_answers"] = check_answers
        environment.filters["check_folder"] = check_folder
        # `cruft update` uses two versions of the template in one process: each imports its own.
        for module in (__name__, "needs_cookiecutter_2_1"):
            sys.modules.pop(module, None)

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return a template that renders to `source`, unless it's a template of ours."""
        if source == FOLDER:  # rendered once, just before cookiecutter makes that folder
            return "{{ cookiecutter | check_folder }}" + source
        is_file = name is not None
        is_hook = "{{ cookiecutter | tojson }}" in source
        if is_file or is_hook or re.fullmatch(r"\{\{ ?cookiecutter\b[^{}]*\}\}", source):
            return source
        return "{{ " + json.dumps(source, ensure_ascii=False) + " }}"


def check_answers(answers: Mapping[str, str]) -> str:
    """Return nothing to render for good answers; raise FailedHookException for bad ones."""
    if sentence := RULES["refusal"](answers):
        raise FailedHookException(sentence)
    return ""


def check_folder(answers: Mapping[str, str]) -> str:
    """Return nothing to render if the project's folder is new; else raise FailedHookException.

    With --overwrite-if-exists, cookiecutter would go on. cruft doesn't say which folder it uses.
    """
    folder = Path(answers.get("_output_dir", ""), answers["project_slug"])
    if "_output_dir" in answers and (sentence := RULES["in_the_way"](folder)):
        raise FailedHookException(sentence)
    return ""
