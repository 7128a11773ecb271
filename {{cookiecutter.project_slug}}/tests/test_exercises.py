"""The exercises: one not begun is skipped with its hint, a wrong attempt fails, solved passes."""

import pytest

from lesson.course import Exercise, Verdict
from lesson.exercises import EXERCISES, verdicts


@pytest.fixture(scope="module")
def marks() -> dict[str, Verdict]:
    """What the check says; it runs app/ in a process of its own."""
    return verdicts()


@pytest.mark.parametrize("exercise", EXERCISES, ids=[exercise.id for exercise in EXERCISES])
def test_exercise(exercise: Exercise, marks: dict[str, Verdict]) -> None:
    verdict = marks.get("exercises", marks[exercise.id])

    if verdict.state == "not yet":
        pytest.skip(f"not yet: {exercise.text}. Hint: {verdict.sentence}")
    if verdict.state == "wrong":
        pytest.fail(verdict.sentence, pytrace=False)
