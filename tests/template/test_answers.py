"""Good answers, bad answers, and every way to give them."""

import json
import re
from pathlib import Path

import pre_gen_project
import pytest

from support.cases import cases
from support.processes import run, succeed
from support.template import ASKED, CHOICES, TEMPLATE, generate, generate_from

CASES = cases(__file__, "answers")
TEXTS = [question for question in ASKED if question not in CHOICES and question != "project_slug"]
SAME = {"project_slug": "tea-house", "author_name": "Zoë", "license": "Apache-2.0"}


def everything(folder: Path) -> dict[str, str]:
    """Return what lies in a project, git's and cruft's own files aside."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".cruft.json"
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return everything(generate(tmp_path_factory.mktemp("expected"), **SAME))


def arguments(answers: dict[str, str]) -> list[str]:
    return [f"{question}={answer}" for question, answer in answers.items()]


@pytest.mark.parametrize("way", ["git", "zip", "config", "cruft"])
def test_every_way_gives_the_same(
    way: str, repository: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    archive = tmp_path / "evtemplate.zip"
    succeed("git", "archive", "--prefix=evtemplate/", f"--output={archive}", "HEAD", cwd=repository)
    config = tmp_path / "config.yaml"
    defaults = {"default_context": SAME, "replay_dir": str(tmp_path / "replay")}
    config.write_text(json.dumps(defaults), encoding="utf-8")  # JSON is YAML, too
    commands: dict[str, list[str | Path]] = {
        "git": ["cookiecutter", f"git+{repository.as_uri()}", *arguments(SAME)],
        "zip": ["cookiecutter", archive, *arguments(SAME)],
        "config": ["cookiecutter", TEMPLATE, "--config-file", config],
        "cruft": ["cruft", "create", repository.as_uri(), "--extra-context", json.dumps(SAME)],
    }
    out = tmp_path / "out"
    out.mkdir()
    succeed(*commands[way], "--no-input", cwd=out)
    assert everything(out / "tea-house") == expected
    if way == "cruft":
        succeed("cruft", "check", cwd=out / "tea-house")


def test_replayed(tmp_path: Path, expected: dict[str, str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"replay_dir": str(tmp_path / "replay")}), encoding="utf-8")
    settings = ("--config-file", str(config))
    succeed("cookiecutter", TEMPLATE, "--no-input", *settings, *arguments(SAME), cwd=tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    succeed("cookiecutter", TEMPLATE, "--replay", *settings, cwd=out)
    assert everything(out / "tea-house") == expected

    [replay] = (tmp_path / "replay").iterdir()
    replay.write_text(replay.read_text(encoding="utf-8").replace("tea-house", "Tea House"), "utf-8")
    done = run("cookiecutter", TEMPLATE, "--replay", *settings, cwd=out)
    assert done.returncode == 1
    assert "project_slug: use lower-case letters" in done.stderr
    assert [path.name for path in out.iterdir()] == ["tea-house"]


def test_typed_at_the_questions(tmp_path: Path, expected: dict[str, str]) -> None:
    typed = {"project_name": "", "project_slug": "tea-house", "author_name": "Zoë", "license": "2"}
    lines = "".join(f"{typed.get(question, '')}\n" for question in ASKED)
    done = run("cookiecutter", TEMPLATE, cwd=tmp_path, typed=lines, PWD=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert everything(tmp_path / "tea-house") == expected
    assert "cd tea-house" in done.stdout
    assert "uv run fastapi dev" in done.stdout


def test_the_same_answers_give_the_same_bits(tmp_path: Path) -> None:
    one, two = (generate(tmp_path / name, **SAME) for name in ("one", "two"))
    assert everything(one) == everything(two)


@pytest.mark.parametrize(("name", "slug"), CASES["slugs"].items())
def test_a_name_becomes_a_slug(name: str, slug: str, tmp_path: Path) -> None:
    assert generate_from(TEMPLATE, tmp_path, False, project_name=name).name == slug


@pytest.mark.slow
@pytest.mark.parametrize("slug", CASES["good"]["project_slug"])
def test_slugs_that_only_look_dangerous(slug: str, tmp_path: Path) -> None:
    project = generate(tmp_path, project_slug=slug, lesson="none")
    succeed("uv", "run", "--quiet", "pytest", "-q", cwd=project)


@pytest.mark.slow
@pytest.mark.parametrize("text", CASES["good"]["texts"])
def test_texts_that_only_look_dangerous(text: str, tmp_path: Path) -> None:
    answers = {"project_slug": "tea", "lesson": "none", **dict.fromkeys(TEXTS, text)}
    succeed("cookiecutter", TEMPLATE, "--no-input", *arguments(answers), cwd=tmp_path)
    succeed("uv", "run", "--quiet", "pytest", "-q", cwd=tmp_path / "tea")


BAD = [
    *(
        (question, text)
        for question in ("project_slug", "project_name")
        for text in CASES["bad"][question]
    ),
    *((question, text) for question in TEXTS for text in CASES["bad"]["texts"]),
]


@pytest.mark.parametrize(("question", "answer"), BAD, ids=lambda text: ascii(text)[:20])
def test_a_bad_answer_is_refused(question: str, answer: str) -> None:
    answers = {"project_slug": "tea", **dict.fromkeys(TEXTS, "x")}
    assert pre_gen_project.refusal(answers) is None
    sentence = pre_gen_project.refusal(answers | {question: answer})
    assert sentence is not None
    assert sentence.startswith(f"{question}: ")
    assert sentence.isprintable()


@pytest.mark.parametrize(
    ("question", "answer"), dict(BAD).items(), ids=lambda text: ascii(text)[:20]
)
def test_a_refusal_leaves_nothing_behind(question: str, answer: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    defaults = {"default_context": {question: answer}, "replay_dir": str(tmp_path / "replay")}
    config.write_text(json.dumps(defaults), encoding="utf-8")
    out = tmp_path / "out" / "of" / "reach"
    out.mkdir(parents=True)

    done = run("cookiecutter", TEMPLATE, "--no-input", "--config-file", config, cwd=out)

    assert done.returncode == 1
    [sentence] = (done.stdout + done.stderr).splitlines()
    assert sentence.startswith(("project_slug: ", f"{question}: "))
    assert list((tmp_path / "out").rglob("*")) == [out.parent, out]
    assert not (tmp_path / "replay").exists() or not list((tmp_path / "replay").iterdir())


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_the_packages_that_a_project_needs_are_no_names_for_it(broker: str, tmp_path: Path) -> None:
    project = generate(tmp_path, broker=broker)
    succeed("uv", "lock", "--quiet", cwd=project)
    lock = (project / "uv.lock").read_text(encoding="utf-8")
    needed = set(re.findall(r'^name = "(.+)"$', lock, re.MULTILINE)) - {project.name}
    assert needed <= pre_gen_project.DEPENDENCIES
