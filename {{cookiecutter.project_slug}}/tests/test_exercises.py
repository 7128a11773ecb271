"""The exercises: one not begun is skipped with its hint, a wrong attempt fails, solved passes."""

import pytest

from lesson.exercises import EXERCISES, Exercise


@pytest.mark.parametrize("exercise", EXERCISES, ids=[exercise.id for exercise in EXERCISES])
def test_exercise(exercise: Exercise) -> None:
    verdict = exercise.mark()

    if verdict.state == "not yet":
        pytest.skip(f"not yet: {exercise.text}. Hint: {verdict.sentence}")
    assert verdict.state == "right", verdict.sentence
