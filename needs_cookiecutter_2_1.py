"""An older cookiecutter can't import this: "No module named 'needs_cookiecutter_2_1'" says why."""

from evtemplate_extensions import Answers

__all__ = ["Answers"]
