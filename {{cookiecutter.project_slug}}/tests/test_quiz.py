"""The quiz: answers are looked up, a question without one answer is refused with its place."""

import re
from pathlib import Path

import pytest

from lesson import answers, quiz
from lesson.quiz import (
    Because,
    Question,
    QuizError,
    as_markdown,
    execution_table,
    load,
    mark,
    predictions,
)
from lesson.tutorial import TUTORIAL, LessonError

QUESTION = """
[[question]]
id = "q1"
text = "What?"
hint = "Look."
look_up = { column = "Step", where = "Event", is = "App starts" }

[[question.choices]]
text = "Step 1"
cell = "1"
why = "It starts."

[[question.choices]]
text = "Step 2"
cell = "2"
why = "It does not start then."
"""
BECAUSE = """
[question.because]
text = "Why?"
hint = "Think."

[[question.because.choices]]
text = "So"
right = true
why = "Yes."

[[question.because.choices]]
text = "Not so"
why = "No."
"""


@pytest.fixture
def quiz_toml(tmp_path: Path) -> Path:
    return tmp_path / "quiz.toml"


@pytest.mark.parametrize("question", load(), ids=lambda question: question.id)
def test_the_right_choice_is_the_only_one(question: Question) -> None:
    asks: list[Question | Because] = [question]
    if question.because:
        asks.append(question.because)
    for asked in asks:
        states = [mark(asked, choice.letter).state for choice in asked.choices]
        assert sorted(states) == ["right", *["wrong"] * (len(states) - 1)]
        assert mark(asked, asked.right).state == "right"
        assert all(mark(asked, choice.letter).sentence == choice.why for choice in asked.choices)


def test_a_question_that_is_not_answered_is_not_yet() -> None:
    for question in load():
        assert mark(question, None) == mark(question, " ") == quiz.Verdict("not yet", question.hint)


def test_small_letters_will_do_and_other_letters_are_explained() -> None:
    question = load()[0]

    assert mark(question, question.right.lower()).state == "right"
    assert mark(question, "Z").state == "wrong"
    assert mark(question, "Z").sentence.endswith("answer with one of A, B, C, D.")


def test_the_answer_follows_the_table(quiz_toml: Path) -> None:
    quiz_toml.write_text(QUESTION, encoding="utf-8")
    table = execution_table()

    assert [question.right for question in load(quiz_toml, table)] == ["A"]

    table[0]["Step"] = "2"
    assert [question.right for question in load(quiz_toml, table)] == ["B"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("App starts", "App stars", "no row of the table where Event is 'App stars'"),
        ('"App starts"', '""', "`is` is missing"),
        ('where = "Event"', 'where = "Evnt"', "'Evnt' is no column"),
        ('cell = "1"', 'cell = "9"', "the table says '1', and none of the choices"),
        ('cell = "2"', 'cell = "1"', "the table says '1', and 2 of the choices"),
        ('hint = "Look."', "", "`hint` is missing"),
        ('why = "It starts."', "", "`why` is missing"),
        ("right = true", "", "because: 0 choices say `right = true`"),
        ('why = "No."', 'why = "No."\nright = true', "because: 2 choices say `right = true`"),
    ],
)
def test_a_bad_question_is_refused(quiz_toml: Path, old: str, new: str, complaint: str) -> None:
    quiz_toml.write_text((QUESTION + BECAUSE).replace(old, new, 1), encoding="utf-8")

    with pytest.raises(QuizError, match=r"^quiz\.toml, line 2, q1.*" + re.escape(complaint)):
        load(quiz_toml)


def test_two_rows_are_no_answer(quiz_toml: Path) -> None:
    quiz_toml.write_text(QUESTION, encoding="utf-8")
    table = execution_table()

    with pytest.raises(QuizError, match="line 2, q1: 2 rows of the table where Event is"):
        load(quiz_toml, [*table, table[0]])


def test_an_id_is_given_once(quiz_toml: Path) -> None:
    quiz_toml.write_text(QUESTION + QUESTION, encoding="utf-8")

    with pytest.raises(QuizError, match=r"^quiz\.toml, line 18, q1: another question has this id"):
        load(quiz_toml)


def test_broken_toml_says_its_line(quiz_toml: Path) -> None:
    quiz_toml.write_text("\n[[question]\n", encoding="utf-8")

    with pytest.raises(QuizError, match=r"^quiz\.toml: .*line 2"):
        load(quiz_toml)


def test_the_tutorial_and_the_quiz_say_the_same() -> None:
    section = TUTORIAL.read_text(encoding="utf-8").partition("\n### Question 1\n")
    shown = (section[1] + section[2]).partition("\n\n## ")[0].strip()

    assert shown == as_markdown(load()).strip(), "paste what `python -m lesson.quiz` prints"


ANSWERS = """\
[predict]
step1 = "a line"
[quiz]
q1 = " C "
q2 = ""
"""


def known() -> set[str]:
    return {"q1", "q2", *(prediction.id for prediction in predictions())}


def test_what_is_left_empty_is_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "answers.toml"
    file.write_text(ANSWERS, encoding="utf-8")

    assert answers.read(known(), file) == answers.Answers({"step1": "a line"}, {"q1": "C"})


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('" C "', "C", "line 4: Invalid value"),
        ('" C "', '"C', "line 4: Illegal character"),
        ('" C "', "3", "line 4: write it between quotes"),
        ("q2", "q1", "line 5: Cannot overwrite a value"),
        ("q2", "q9", "line 5: there is no question q9"),
        ("[quiz]", "[quizz]", "line 3: quizz does not belong here"),
        ("[predict]\n", "", "line 1: step1 does not belong here"),
    ],
)
def test_bad_answers_say_their_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    file = tmp_path / "answers.toml"
    file.write_text(ANSWERS.replace(old, new), encoding="utf-8")

    with pytest.raises(LessonError, match=r"^answers\.toml, " + complaint):
        answers.read(known(), file)


def test_answers_from_an_editor_of_windows(tmp_path: Path) -> None:
    file = tmp_path / "answers.toml"
    file.write_bytes(b"\xef\xbb\xbf" + ANSWERS.replace("\n", "\r\n").encode())

    assert answers.read(known(), file).quiz == {"q1": "C"}


def test_answers_that_are_gone_or_no_text_are_explained(tmp_path: Path) -> None:
    file = tmp_path / "answers.toml"
    with pytest.raises(LessonError, match="is not there; take it back from git"):
        answers.read(known(), file)

    file.write_text(ANSWERS, encoding="utf-16")
    with pytest.raises(LessonError, match="save it as UTF-8"):
        answers.read(known(), file)
