"""Good answers, bad answers, and every way to give them."""

import json
import re
from pathlib import Path

import pre_gen_project
import pytest

from support.cases import cases
from support.processes import run, succeed
from support.projects import Bake, Project
from support.template import ASKED, CHOICES, TEMPLATE, generate

CASES = cases(__file__, "answers")
TEXTS = [question for question in ASKED if question not in CHOICES and question != "project_slug"]
SAME = {"project_slug": "tea-house", "author_name": "Zoë", "license": "Apache-2.0"}
TYPED = SAME | {"license": "2"}  # at the questions, in which no answer is the default
GIVEN = tuple(f"{question}={answer}" for question, answer in SAME.items())
BAD = [
    (question, text)
    for question in ("project_slug", *TEXTS)
    for text in CASES["bad"].get(question, []) + CASES["bad"]["texts"] * (question in TEXTS)
]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return Project(generate(tmp_path_factory.mktemp("expected"), **SAME)).files()


def configured(folder: Path, defaults: dict[str, str]) -> Path:
    """Return a user's settings for cookiecutter, with these defaults."""
    config = folder / "config.yaml"
    settings = {"default_context": defaults, "replay_dir": str(folder / "replay")}
    config.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML, too
    return config


@pytest.mark.parametrize("way", ["git", "zip", "config", "cruft", "typed"])
def test_every_way_gives_the_same(
    way: str, repository: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    archive = tmp_path / "evtemplate.zip"
    succeed("git", "archive", "--prefix=evtemplate/", f"--output={archive}", "HEAD", cwd=repository)
    url, no = repository.as_uri(), "--no-input"
    commands: dict[str, list[str | Path]] = {
        "git": ["cookiecutter", no, f"git+{url}", *GIVEN],
        "zip": ["cookiecutter", no, archive, *GIVEN],
        "config": ["cookiecutter", no, TEMPLATE, "--config-file", configured(tmp_path, SAME)],
        "cruft": ["cruft", "create", no, url, "--extra-context", json.dumps(SAME)],
        "typed": ["cookiecutter", TEMPLATE],
    }
    out = tmp_path / "out"
    out.mkdir()
    lines = "".join(f"{TYPED.get(question, '')}\n" for question in ASKED)
    done = run(*commands[way], cwd=out, typed=lines, PWD=str(out))
    assert done.returncode == 0, done.stderr
    made = Project(out / "tea-house").files()
    if made.pop(".cruft.json", None):
        succeed("cruft", "check", cwd=out / "tea-house")
    assert made == expected
    assert "cd tea-house\n    uv run fastapi dev" in done.stdout


def test_a_replay_gives_the_same_and_is_checked_too(
    tmp_path: Path, expected: dict[str, str]
) -> None:
    command = ("cookiecutter", TEMPLATE, "--config-file", configured(tmp_path, {}))
    succeed(*command, "--no-input", *GIVEN, cwd=tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    succeed(*command, "--replay", cwd=out)
    assert Project(out / "tea-house").files() == expected

    Project(tmp_path).edit("replay/evtemplate.json", '"tea-house"', '"Tea House"')
    done = run(*command, "--replay", cwd=out)
    assert done.returncode == 1
    assert "project_slug: use lower-case letters" in done.stderr
    assert [path.name for path in out.iterdir()] == ["tea-house"]


@pytest.mark.parametrize(("name", "slug"), CASES["slugs"].items())
def test_a_name_becomes_a_slug(name: str, slug: str, tmp_path: Path) -> None:
    assert generate(tmp_path, TEMPLATE, False, project_name=name).name == slug


@pytest.mark.slow
@pytest.mark.parametrize("slug", CASES["good"]["project_slug"])
def test_slugs_that_only_look_dangerous(slug: str, bake: Bake) -> None:
    project = bake(project_slug=slug, lesson="none")
    succeed("uv", "lock", "--quiet", cwd=project.path)
    assert project.test().returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("text", CASES["good"]["texts"])
def test_texts_that_only_look_dangerous(text: str, bake: Bake) -> None:
    done = bake(project_slug="tea", lesson="none", **dict.fromkeys(TEXTS, text)).test()
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("question", "answer"), BAD, ids=lambda text: ascii(text)[:20])
def test_a_bad_answer_is_refused(question: str, answer: str) -> None:
    answers = {"project_slug": "tea", **dict.fromkeys(TEXTS, "x")}
    assert pre_gen_project.refusal(answers) is None
    sentence = pre_gen_project.refusal(answers | {question: answer})
    assert sentence is not None
    assert sentence.startswith(f"{question}: ")
    assert sentence.isprintable()


@pytest.mark.parametrize(("question", "answer"), dict(BAD).items(), ids=dict(BAD))
def test_a_refusal_leaves_nothing_behind(question: str, answer: str, tmp_path: Path) -> None:
    config = configured(tmp_path, {question: answer})
    out = tmp_path / "out" / "of" / "reach"
    out.mkdir(parents=True)

    done = run("cookiecutter", TEMPLATE, "--no-input", "--config-file", config, cwd=out)

    assert done.returncode == 1
    [sentence] = (done.stdout + done.stderr).splitlines()
    assert sentence.startswith(("project_slug: ", f"{question}: "))
    assert list((tmp_path / "out").rglob("*")) == [out.parent, out]
    assert not list((tmp_path / "replay").glob("*"))


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_the_packages_that_a_project_needs_are_no_names_for_it(broker: str, bake: Bake) -> None:
    project = bake(broker=broker)
    succeed("uv", "lock", "--quiet", cwd=project.path)
    needed = set(re.findall(r'^name = "(.+)"$', project.read("uv.lock"), re.M))
    assert needed - {project.path.name} <= pre_gen_project.DEPENDENCIES
