"""Good answers, bad answers, and every way to give them."""

import json
import re
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pre_gen_project import DEPENDENCIES, refusal

from support.cases import cases
from support.processes import run, succeed
from support.projects import Bake, Project
from support.template import ASKED, CHOICES, TEMPLATE, generate

CASES = cases(__file__, "answers")
TEXTS = [question for question in ASKED if question not in CHOICES and question != "project_slug"]
PLAIN = {"project_slug": "tea", **dict.fromkeys(TEXTS, "x")}
SAME = {"project_slug": "tea-house", "author_name": "Zoë", "license": "Apache-2.0"}
TYPED = SAME | {"license": "2"}  # at the questions; an empty line takes the default
GIVEN = tuple(f"{question}={answer}" for question, answer in SAME.items())
BAD = [
    (question, text)
    for question in ("project_slug", *TEXTS)
    for text in CASES["bad"].get(question, []) + CASES["bad"]["texts"] * (question in TEXTS)
]
NASTY = st.sampled_from([*CASES["hostile"]["texts"], "x" * 10_000, "\ud800"])
ANY_TEXT = st.one_of(NASTY, st.text(), st.builds("{}{}{}".format, st.text(), NASTY, st.text()))
SLUGS = st.one_of(st.just("tea"), ANY_TEXT, st.from_regex(r"[a-z][a-z0-9-]{0,70}", fullmatch=True))


def made(folder: Path, *settings: bool, **answers: str) -> dict[str, str]:
    """Generate a project; return its files."""
    return Project(generate(folder, TEMPLATE, *settings, **answers)).files()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made(tmp_path_factory.mktemp("expected"), **SAME)


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
    files = Project(out / "tea-house").files()
    if files.pop(".cruft.json", None):
        succeed("cruft", "check", cwd=out / "tea-house")
    assert files == expected
    assert "cd tea-house\n    uv run fastapi dev" in done.stdout


def test_a_replay_gives_the_same_and_is_checked(tmp_path: Path, expected: dict[str, str]) -> None:
    command = ("cookiecutter", TEMPLATE, "--config-file", configured(tmp_path, {}))
    succeed(*command, "--no-input", *GIVEN, cwd=tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    succeed(*command, "--replay", cwd=out)
    assert Project(out / "tea-house").files() == expected

    [replay] = (tmp_path / "replay").iterdir()
    Project(replay.parent).edit(replay.name, '"tea-house"', '"Tea House"')
    done = run(*command, "--replay", cwd=out)
    assert done.returncode == 1
    assert "project_slug: use lower-case letters" in done.stderr
    assert [path.name for path in out.iterdir()] == ["tea-house"]


def test_without_hooks_the_project_says_what_to_do(tmp_path: Path) -> None:
    succeed("cookiecutter", TEMPLATE, "--no-input", "--accept-hooks", "no", cwd=tmp_path)
    said = Project(tmp_path / "event-service").read("UNFINISHED.md")
    assert "generate it again\nwith hooks allowed" in said


@pytest.mark.parametrize(("name", "slug"), CASES["slugs"].items())
def test_a_name_becomes_a_slug(name: str, slug: str, tmp_path: Path) -> None:
    assert generate(tmp_path, TEMPLATE, False, project_name=name).name == slug


@pytest.mark.slow
@pytest.mark.parametrize("slug", CASES["good"]["project_slug"])
def test_slugs_that_only_look_dangerous(slug: str, bake: Bake) -> None:
    project = bake(project_slug=slug, lesson="none")
    assert " passed" in succeed("uv", "run", "--quiet", "pytest", "-q", cwd=project.path)


@pytest.mark.parametrize("text", CASES["good"]["texts"], ids=ascii)
def test_texts_that_only_look_dangerous(text: str, plain: dict[str, str], tmp_path: Path) -> None:
    typed = PLAIN | dict.fromkeys(TEXTS, text)
    holds(made(tmp_path, False, **typed), typed, plain)


@pytest.mark.parametrize(("question", "answer"), BAD, ids=lambda text: ascii(text)[:20])
def test_a_bad_answer_is_refused(question: str, answer: str) -> None:
    assert refusal(PLAIN) is None
    assert str(refusal(PLAIN | {question: answer})).startswith(f"{question}: ")


@pytest.mark.parametrize(("question", "answer"), dict(BAD).items(), ids=dict(BAD))
def test_a_refusal_leaves_nothing_behind(question: str, answer: str, tmp_path: Path) -> None:
    config = configured(tmp_path, {question: answer})
    out = tmp_path / "out" / "of" / "reach"
    out.mkdir(parents=True)
    done = run("cookiecutter", TEMPLATE, "--no-input", "--config-file", config, cwd=out)
    assert done.returncode == 1
    [sentence] = (done.stdout + done.stderr).splitlines()
    assert sentence.startswith(f"{question}: ")
    assert list((tmp_path / "out").rglob("*")) == [out.parent, out]
    assert not list((tmp_path / "replay").glob("*"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made(tmp_path_factory.mktemp("plain"), False, **PLAIN)


@settings(max_examples=60, deadline=None)
@given(typed=st.fixed_dictionaries(dict.fromkeys(TEXTS, ANY_TEXT) | {"project_slug": SLUGS}))
def test_any_text_is_kept_or_refused(typed: dict[str, str], plain: dict[str, str]) -> None:
    """A project holds what was typed, or there's one sentence."""
    if sentence := refusal(typed):
        assert sentence.startswith(tuple(f"{question}: " for question in typed))
        assert (sentence.isascii(), sentence.isprintable()) == (True, True)
        assert len(sentence) < 250
    else:
        with TemporaryDirectory() as folder:
            holds(made(Path(folder), False, **typed), typed, plain)


def holds(files: dict[str, str], typed: dict[str, str], plain: dict[str, str]) -> None:
    name, description, author = (typed[question] for question in TEXTS)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == typed["project_slug"]
    assert project["description"] == description
    assert project.get("authors", [{"name": ""}]) == [{"name": author}]
    assert json.loads(files[".devcontainer/devcontainer.json"])["name"] == name
    assert files["README.md"].startswith(f"# {name}\n\n{description}\n")
    assert author in files["LICENSE-MIT"]
    for path, code in plain.items():  # the same code, so the same tests pass
        if path.endswith(".py"):
            code = code.replace('title="x"', f'title="{name}"')
            assert files[path] == code.replace('SERVICE = "tea"', f'SERVICE = "{project["name"]}"')


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_the_packages_that_a_project_needs_are_no_names_for_it(broker: str, bake: Bake) -> None:
    project = bake(broker=broker)
    succeed("uv", "lock", "--quiet", cwd=project.path)
    needed = set(re.findall(r'^name = "(.+)"$', project.read("uv.lock"), re.M))
    assert needed - {project.path.name} <= DEPENDENCIES
