"""The quiz: answers are looked up, a question without one answer is refused with its place.

Run as a program, it prints the quiz for TUTORIAL.md: uv run python -m tests.test_quiz
"""

import re
from pathlib import Path

import pytest

from lesson.course import (
    ANSWERS,
    TUTORIAL,
    LessonError,
    Question,
    Verdict,
    given_rows,
    mark,
    predictions,
    questions,
    read_answers,
    write_answer,
)

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

[[question]]
id = "q1_because"
after = "q1"
text = "Why?"
hint = "Think."

[[question.choices]]
text = "So"
right = true
why = "Yes."

[[question.choices]]
text = "Not so"
why = "No."
"""


@pytest.fixture
def quiz_toml(tmp_path: Path) -> Path:
    return tmp_path / "quiz.toml"


@pytest.mark.parametrize("question", questions(), ids=lambda question: question.id)
def test_the_right_choice_is_the_only_one(question: Question) -> None:
    states = [mark(question, choice.letter).state for choice in question.choices]

    assert sorted(states) == ["right", *["wrong"] * (len(states) - 1)]
    assert mark(question, question.right).state == "right"
    assert all(mark(question, each.letter).sentence == each.why for each in question.choices)


def test_a_question_that_is_not_answered_is_not_yet() -> None:
    for question in questions():
        assert mark(question, None) == mark(question, " ") == Verdict("not yet", question.hint)


def test_small_letters_will_do_and_other_letters_are_explained() -> None:
    question = questions()[0]

    assert mark(question, question.right.lower()).state == "right"
    assert mark(question, "Z").state == "wrong"
    assert "answer with A, B, C, D" in mark(question, "Z").sentence


def test_the_answer_follows_the_table(quiz_toml: Path) -> None:
    quiz_toml.write_text(QUESTION, encoding="utf-8")
    rows = [row.cells for row in given_rows()]
    rows[0] = rows[0] | {"Step": "2"}

    assert [question.right for question in questions(quiz_toml, rows)] == ["B"]


def test_the_answer_follows_what_the_code_prints(quiz_toml: Path) -> None:
    look_up = 'look_up = { column = "Step", where = "Event", is = "App starts" }'
    text = QUESTION.replace(look_up, "code = 'print(1 + 1)'")
    text = text.replace('cell = "1"', 'prints = "1\\n"').replace('cell = "2"', 'prints = "2\\n"')
    quiz_toml.write_text(text, encoding="utf-8")

    assert [question.right for question in questions(quiz_toml)] == ["B"]


def test_code_that_does_not_run_yet_is_run_again(quiz_toml: Path, tmp_path: Path) -> None:
    mended = tmp_path / "mended.txt"
    look_up = 'look_up = { column = "Step", where = "Event", is = "App starts" }'
    text = QUESTION.replace(look_up, f"code = 'print(open(\"{mended.as_posix()}\").read())'")
    quiz_toml.write_text(text.replace('cell = "1"', 'prints = "1\\n"'), encoding="utf-8")
    [question] = questions(quiz_toml)
    assert mark(question, "A").state == "not yet"

    mended.write_text("1", encoding="utf-8")
    assert mark(question, "A").state == "right"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("App starts", "App stars", "0 rows of the table have 'App stars' under Event, not 1"),
        ('"App starts"', '""', "look_up.is: String should have at least 1 character"),
        ('where = "Event"', 'where = "Evnt"', "look_up.where: Input should be 'Step', 'Event'"),
        ('cell = "1"', 'cell = "9"', "q1: 0 choices are right; it takes one"),
        ('cell = "2"', 'cell = "1"', "q1: 2 choices are right"),
        ('hint = "Look."', "", "hint: Field required"),
        ('why = "It starts."', "", "choices.0.why: Field required"),
        ("right = true", "", "q1_because: 0 choices are right"),
        ('why = "No."', 'why = "No."\nright = true', "q1_because: 2 choices are right"),
    ],
)
def test_a_bad_question_is_refused(quiz_toml: Path, old: str, new: str, complaint: str) -> None:
    quiz_toml.write_text((QUESTION + BECAUSE).replace(old, new, 1), encoding="utf-8")

    with pytest.raises(LessonError, match=r"^quiz\.toml, (q1: )?" + re.escape(complaint)):
        questions(quiz_toml)


def test_two_rows_are_no_answer(quiz_toml: Path) -> None:
    quiz_toml.write_text(QUESTION, encoding="utf-8")
    table = [row.cells for row in given_rows()]

    with pytest.raises(LessonError, match="q1: 2 rows of the table have"):
        questions(quiz_toml, [*table, table[0]])


def test_an_id_is_given_once(quiz_toml: Path) -> None:
    quiz_toml.write_text(QUESTION + QUESTION, encoding="utf-8")

    with pytest.raises(LessonError, match=r"^quiz\.toml, q1: its id must be new"):
        questions(quiz_toml)


def test_broken_toml_says_its_line(quiz_toml: Path) -> None:
    quiz_toml.write_text("\n[[question]\n", encoding="utf-8")

    with pytest.raises(LessonError, match=r"^quiz\.toml: .*line 2"):
        questions(quiz_toml)


def as_markdown() -> str:
    """Return the quiz as TUTORIAL.md shows it, the explanations folded away."""
    parts = []
    for question in questions():
        title = f"### Question {question.id.removeprefix('q')}"
        if question.after or question.code:
            title = f"Then, as `{question.id}`:" if question.after else f"### As `{question.id}`"
        code = f"\n\n```python\n{question.code.strip()}\n```" if question.code else ""
        choices = "\n".join(f"- **{choice.letter}** {choice.text}" for choice in question.choices)
        whys = "\n".join(
            f"- **{choice.letter}** is {mark(question, choice.letter).state}. {choice.why}"
            for choice in question.choices
        )
        parts.append(
            f"{title}\n\n{question.text}{code}\n\n{choices}\n\nHint: {question.hint}\n\n"
            f"<details>\n<summary>What each choice means</summary>\n\n{whys}\n\n</details>\n"
        )
    return "\n".join(parts)


def test_the_tutorial_and_the_quiz_say_the_same() -> None:
    section = TUTORIAL.read_text(encoding="utf-8").partition("\n### Question 1\n")
    shown = (section[1] + section[2]).partition("\n\n## ")[0].strip()

    assert shown == as_markdown().strip(), "paste what `uv run python -m tests.test_quiz` prints"


WRITTEN = """\
[predict]
step1 = "a line"  # a comment
[quiz]
q1 = " C "
q2 = ""
"""


def test_what_is_left_empty_is_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "answers.toml"
    file.write_text(WRITTEN, encoding="utf-8")

    assert read_answers(file) == {"step1": "a line", "q1": "C"}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('" C "', "C", "line 4: Invalid value"),
        ('" C "', '"C', "line 4: Illegal character"),
        ('" C "', "3", "line 4: write it between quotes"),
        ("q2", "q1", "line 5: Cannot overwrite a value"),
        ("q2", "q9", "line 5: there's no question q9"),
        ("[quiz]", "[quizz]", "line 3: quizz doesn't belong here"),
        ("[predict]\n", "", "line 1: step1 doesn't belong here"),
    ],
)
def test_bad_answers_say_their_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    file = tmp_path / "answers.toml"
    file.write_text(WRITTEN.replace(old, new), encoding="utf-8")

    with pytest.raises(LessonError, match=r"^answers\.toml, " + complaint):
        read_answers(file)


def test_answers_from_an_editor_of_windows(tmp_path: Path) -> None:
    file = tmp_path / "answers.toml"
    file.write_bytes(b"\xef\xbb\xbf" + WRITTEN.replace("\n", "\r\n").encode())

    assert read_answers(file) == {"step1": "a line", "q1": "C"}
    write_answer("q1", "A", file)
    assert (
        file.read_bytes()
        == b"\xef\xbb\xbf" + WRITTEN.replace("\n", "\r\n").replace(" C ", "A").encode()
    )


@pytest.mark.parametrize(
    ("encoding", "complaint"), [("utf-16", "line 1: .*UTF-16"), ("cp1252", "line 2: .*UTF-8")]
)
def test_answers_that_are_gone_or_in_another_encoding(
    tmp_path: Path, encoding: str, complaint: str
) -> None:
    file = tmp_path / "answers.toml"
    with pytest.raises(LessonError, match="is missing; `git restore"):
        read_answers(file)

    file.write_text(WRITTEN.replace("a line", "a caf\u00e9"), encoding=encoding)
    with pytest.raises(LessonError, match=rf"^answers\.toml, {complaint}"):
        read_answers(file)


@pytest.mark.parametrize("answer", ['a "line" \\ caf\u00e9 \U0001f600', "two\nlines", "", "# x"])
def test_an_answer_is_written_where_it_belongs(tmp_path: Path, answer: str) -> None:
    file = tmp_path / "answers.toml"
    file.write_text(WRITTEN, encoding="utf-8")

    write_answer("step1", answer, file)
    write_answer("step2", "new", file)

    said = {"step1": " ".join(answer.split()), "step2": "new", "q1": "C"}
    assert read_answers(file) == {key: value for key, value in said.items() if value}
    assert "  # a comment\n" in file.read_text(encoding="utf-8")
    with pytest.raises(LessonError, match="no question q99"):
        write_answer("q99", "A", file)


def test_there_is_a_line_for_each_answer() -> None:
    ids = {each.id for each in predictions()} | {each.id for each in questions()}

    assert ids <= set(re.findall(r"^(\w+) *=", ANSWERS.read_text(encoding="utf-8-sig"), re.M))


if __name__ == "__main__":
    print(as_markdown())
