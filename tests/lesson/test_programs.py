"""What the check says to learners' programs: the verdict, the place, and the word that helps."""

import re
from typing import Any

import pytest

from support.cases import cases
from support.projects import Bake, Project

PROGRAMS = cases(__file__, "programs")
PARTS = PROGRAMS.pop("parts")
IMPORTS = "from app.bus import emit, on\nfrom app.events import *\n"
OWN = (
    "from fastapi import APIRouter, BackgroundTasks, Header, HTTPException\n"
    f"from pydantic import BaseModel, Field\n{IMPORTS}\nrouter = APIRouter()\n"
)
MARKS = {"r": "✓", "n": "·", "w": "✗"}


def write(student: Project, program: dict[str, Any]) -> None:
    """Write a program into the student's project."""

    def code(texts: list[str], before: str = "") -> str:
        text = before + "".join(PARTS.get(text, text) for text in texts)
        for old, new in program.get("edit", []):
            text = text.replace(old, new)
        return text

    if "events" in program:
        student.write(
            "app/events.py", f"{student.read('app/events.py')}\n{code(program['events'])}"
        )
    if "stock" in program:
        text = code(program["stock"], IMPORTS)
        content = text.encode(program.get("encoding", "utf-8"))
        (student.path / "app/handlers/stock.py").write_bytes(content)
    if "own" in program:
        student.write("app/handlers/own.py", code(program["own"], OWN))
    for old, new in program.get("orders", []):
        for part in ("PLACED", "PRINTS"):
            old, new = (text.replace(part, PARTS[part]) for text in (old, new))
        student.edit("app/handlers/orders.py", old, new)
    if "row" in program:
        tutorial = student.read("TUTORIAL.md")
        last = next(line for line in tutorial.splitlines() if line.startswith("| 4 "))
        student.edit("TUTORIAL.md", f"{last}\n", f"{last}\n{code(program['row'])}")
    for file, text in program.get("files", {}).items():
        student.write(file, text)
    for file, old, new in program.get("rename", []):
        student.write(file, student.read(file).replace(old, new))


SLOW = {name for name, program in PROGRAMS.items() if program.pop("slow", False)}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in PROGRAMS]
)
def test_a_program(bake: Bake, name: str) -> None:
    program = PROGRAMS[name]
    student = bake(lesson="student")
    write(student, program)

    done = student.check()

    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    found = {id_: mark for mark, id_ in re.findall(r"\[(.)\] (exercise\d) ", said)}
    expected = {f"exercise{n}": MARKS[each] for n, each in enumerate(program["verdicts"], 1)}
    assert found == expected, said
    assert ("[✗] exercises " in said) == program.get("broken", False), said
    assert "Traceback" not in said + done.stderr
    if "w" in program["verdicts"] or program.get("broken"):
        [sentence] = re.findall(r"^      Wrong: (.+)$", said, re.MULTILINE)
        assert sentence.startswith(program["at"]), sentence
        assert program["says"] in sentence
    elif "says" in program:
        assert program["says"] in student.run("-m", "lesson.marks").stdout
