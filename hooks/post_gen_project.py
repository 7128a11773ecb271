"""Keep what was chosen, then say what to type next."""

import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

LEARNING = ["student", "solution"]
BROKERS = ["postgres", "nats", "rabbitmq", "redis", "kafka"]

# What only some answers keep: path in the template, question, answers, name in the project.
CHOICES = [
    ("LICENSE-MIT", "license", ["MIT"], "LICENSE"),
    ("LICENSE-Apache-2.0", "license", ["Apache-2.0"], "LICENSE"),
    ("TUTORIAL.md", "lesson", LEARNING, "TUTORIAL.md"),
    ("BEYOND.md", "lesson", LEARNING, "BEYOND.md"),
    ("BEYOND.md", "broker", BROKERS, "BEYOND.md"),  # it needs both
    ("answers-student.toml", "lesson", ["student"], "answers.toml"),
    ("answers-solution.toml", "lesson", ["solution"], "answers.toml"),
    ("app/handlers/stock_student.py", "lesson", ["student"], "app/handlers/stock.py"),
    ("app/handlers/stock_solution.py", "lesson", ["solution"], "app/handlers/stock.py"),
    ("app/handlers/deliveries.py", "lesson", ["solution"], "app/handlers/deliveries.py"),
    ("lesson/grade.py", "lesson", ["solution"], "lesson/grade.py"),
    ("tests/test_tutorial.py", "lesson", LEARNING, "tests/test_tutorial.py"),
    ("tests/test_quiz.py", "lesson", LEARNING, "tests/test_quiz.py"),
    ("tests/test_exercises.py", "lesson", LEARNING, "tests/test_exercises.py"),
    (".github/workflows/lesson.yml", "lesson", LEARNING, ".github/workflows/lesson.yml"),
    ("lesson/broker_nats.py", "broker", ["nats"], "lesson/broker.py"),
    ("lesson/broker_postgres.py", "broker", ["postgres"], "lesson/broker.py"),
    ("lesson/broker_compose.py", "broker", ["rabbitmq", "redis", "kafka"], "lesson/broker.py"),
    ("lesson/beyond.py", "broker", BROKERS, "lesson/beyond.py"),
    ("lesson/again.py", "broker", BROKERS, "lesson/again.py"),
    ("lesson/instances.py", "broker", BROKERS, "lesson/instances.py"),
    ("lesson/page/instances.js", "broker", BROKERS, "lesson/page/instances.js"),
    ("lesson", "lesson", LEARNING, "lesson"),  # after the files in it
    (".github/workflows/broker.yml", "broker", BROKERS, ".github/workflows/broker.yml"),
    ("app/messaging/broker_postgres.py", "broker", ["postgres"], "app/messaging/broker.py"),
    ("app/messaging/queue.sql", "broker", ["postgres"], "app/messaging/queue.sql"),
    ("app/messaging/broker_nats.py", "broker", ["nats"], "app/messaging/broker.py"),
    ("app/messaging/broker_rabbitmq.py", "broker", ["rabbitmq"], "app/messaging/broker.py"),
    ("app/messaging/broker_redis.py", "broker", ["redis"], "app/messaging/broker.py"),
    ("app/messaging/broker_kafka.py", "broker", ["kafka"], "app/messaging/broker.py"),
    ("app/messaging/aiokafka_1038.py", "broker", ["kafka"], "app/messaging/aiokafka_1038.py"),
    ("app/messaging", "broker", BROKERS, "app/messaging"),  # after the files in it
    ("app/tracing.py", "broker", BROKERS, "app/tracing.py"),
    ("tests/test_messaging.py", "broker", BROKERS, "tests/test_messaging.py"),
    ("app/database.py", "broker", ["postgres"], "app/database.py"),
    ("app/models.py", "broker", ["postgres"], "app/models.py"),
    ("migrations", "broker", ["postgres"], "migrations"),
    ("tests/test_database.py", "broker", ["postgres"], "tests/test_database.py"),
    ("tests/postgres.py", "broker", ["postgres"], "tests/postgres.py"),
    ("tests/test_queue.py", "broker", ["postgres"], "tests/test_queue.py"),
]

# What tools leave in a checkout of the template; cookiecutter copies it.
CACHES = ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache")

NEXT = """
{slug} is ready. Next:

    cd {folder}{unset}
    uv run fastapi dev      starts it at http://127.0.0.1:8000{page}; Ctrl+C stops it
    uv run pytest           runs its tests

No uv yet? python -m pip install uv
"""
CLEAR = "unset VIRTUAL_ENV" if os.name == "posix" else '$env:VIRTUAL_ENV=""'
UNSET = f"\n    {CLEAR:<23} another environment is active, and uv would warn each time"


def keep(answers: dict[str, str]) -> None:
    """Rename in this folder what the answers want, and remove what they don't."""
    Path("UNFINISHED.md").unlink()  # which says what to do if hooks didn't run
    for path, question, wanted, name in CHOICES:
        if not Path(path).exists():
            continue  # an earlier answer has removed it
        if answers[question] in wanted:
            Path(path).replace(name)
        elif Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink()
    for cache in [path for name in CACHES for path in Path().rglob(name)]:
        shutil.rmtree(cache)


def next_steps(answers: dict[str, str]) -> str:
    """Return what to type next; nothing if cruft generates the project only to compare it."""
    here = Path.cwd()
    temporary = here.parent.parent == Path(tempfile.gettempdir()).resolve()
    if (
        temporary
        and re.fullmatch("tmp[a-z0-9_]{8}", here.parent.name)
        and "_output_dir" not in answers
    ):
        return ""
    shell = os.environ.get("PWD", "")  # Windows has none, so the whole path is printed
    beside = os.path.isdir(shell) and os.path.samefile(shell, here.parent)
    return NEXT.format(
        slug=here.name,
        folder=here.name if beside else f'"{here}"',
        unset=UNSET if os.environ.get("VIRTUAL_ENV") else "",
        page="/docs" if answers["lesson"] == "none" else "/lesson",
    )


def main(answers: dict[str, str]) -> None:
    keep(answers)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    print(next_steps(answers), end="")


if __name__ == "__main__":
    main(json.loads(r"""{{ cookiecutter | tojson }}"""))
