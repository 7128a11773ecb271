"""Write README.md's table of what each choice adds, from real output: uv run python scripts/choices.py"""

import json
import tempfile
import tomllib
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).resolve().parent.parent
README = TEMPLATE / "README.md"
BEGIN, END = "<!-- made by scripts/choices.py -->\n", "<!-- end -->\n"
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
LEAST = {
    name: "none"
    for name, asked in QUESTIONS.items()
    if isinstance(asked, list) and not name.startswith("_")
}
HEAD = "| Choice | Files | Lines in `app/` | in `tests/` | in `lesson/` | It needs |\n|---|---|---|---|---|---|\n"


def made(answers: dict[str, str]) -> tuple[list[int], set[str]]:
    """Return how many files and lines of code the answers give, and what the service needs."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(
            cookiecutter(str(TEMPLATE), no_input=True, output_dir=folder, extra_context=answers)
        )
        files = [path for path in project.rglob("*") if path.is_file()]
        lines = dict.fromkeys(("app", "tests", "lesson"), 0)
        for path in files:
            part = path.relative_to(project).parts[0]
            if part in lines and path.suffix in {".py", ".js", ".css", ".html", ".toml"}:
                lines[part] += len(path.read_text(encoding="utf-8").splitlines())
        text = (project / "pyproject.toml").read_text(encoding="utf-8")
        needs = {each.partition(">")[0] for each in tomllib.loads(text)["project"]["dependencies"]}
        return [len(files), *lines.values()], needs


def table() -> str:
    """Return the table: what there is without any choice, then what each choice adds to it."""
    base, base_needs = made(LEAST)
    rows = [("the service alone", base, base_needs, "")]
    for question in LEAST:
        for answer in QUESTIONS[question]:
            if answer != LEAST[question]:
                counts, needs = made(LEAST | {question: answer})
                added = [mine - least for mine, least in zip(counts, base, strict=True)]
                rows.append((f"`{question}={answer}`", added, needs - base_needs, "+"))
    return HEAD + "".join(
        f"| {name} | {' | '.join(shown(count, sign) for count in counts)} "
        f"| {', '.join(sorted(needs)) or 'nothing more'} |\n"
        for name, counts, needs, sign in rows
    )


def shown(count: int, sign: str) -> str:
    """Return a count as it stands in the table, rounded to two figures."""
    rounded = round(count, 2 - len(str(count)))
    return f"{sign}{rounded:,}" if count else ("0" if not sign else "")


def main() -> None:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
