"""With broker=postgres an event is stored in the transaction of the data, or not at all."""

import random
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest

from support.brokers import Postgres
from support.processes import Process, succeed, until
from support.services import Instance, Serve, Service

pytestmark = [
    pytest.mark.brokers,
    pytest.mark.parametrize("name", ["postgres"], indirect=True, scope="session"),
]

TEA = {"item": "tea", "quantity": 2}
BLOCKS = """SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read
FROM pg_statio_user_tables WHERE schemaname = 'mq_{}' AND relname = 'events'"""
GONE = """INSERT INTO mq_{}.events (listener, document)
SELECT 'gone' || number % 3, 'x' FROM generate_series(1, 135000) number"""
TICKS = """SELECT mq_{}.publish('Tick', json_build_object('specversion', '1.0', 'id', number::text,
'source', '/x', 'type', 'Tick', 'data', json_object(ARRAY[]::text[]))::text) FROM generate_series(1, 2000) number"""


def prepared(service: Service) -> Service:
    """Return a service that has the listener of books.py, and its tables in the database."""
    shutil.copy(Path(__file__).with_name("books.py"), service.folder / "app" / "handlers")
    done = service.run("-m", "alembic", "upgrade", "head")
    assert done.returncode == 0, done.stdout + done.stderr
    return service


def booked(service: Service) -> set[str]:
    """Return the ids of the orders whose events were handled."""
    log = Path(f"{service.log}.orders")
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    assert "missing" not in text  # no event without its order
    return set(re.findall("(.+) booked\n", text))


def waits(server: Postgres, service: Service) -> int:
    return int(server.query(f"SELECT count(*) FROM mq_{service.name}.events WHERE due IS NOT NULL"))


def place(instance: Instance, seconds: float) -> set[str]:
    """Place orders for so long; return the ids of those that were answered with 201."""
    answered, end = set(), time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            status, answer = instance.post("/orders", TEA)
        except (OSError, ValueError, HTTPException):  # it was killed
            time.sleep(0.05)
            continue
        assert status in (201, 503), (status, answer)
        if status == 201:
            answered.add(answer["order_id"])
    return answered


@pytest.mark.parametrize("victim", ["instances", "database"])
def test_kill_9_at_random_moments_under_load(own: Postgres, serve: Serve, victim: str) -> None:
    stored = prepared(serve(own.url))
    instances = [stored.start() for _ in range(3)]
    chance = random.Random(victim)
    with ThreadPoolExecutor(6) as pool:
        placing = [pool.submit(place, each, 10) for each in instances * 2]
        for _ in range(6):
            time.sleep(chance.uniform(0.2, 2))
            if victim == "database":
                own.kill()
                own.up()
            else:
                one = chance.choice(instances)
                one.kill()
                one.start()
        answered = set().union(*(each.result() for each in placing))
    for each in instances:
        each.well()

    assert len(answered) > 20
    kept = set(own.query("SELECT id FROM orders").split())
    assert answered <= kept
    until(lambda: booked(stored) == kept, lambda: f"{len(kept)}\n{stored}")
    until(lambda: waits(own, stored) == 0)
    assert "Dead letters: 0\n" in stored.command("dead-letters").stdout


def test_two_services_on_one_database_share_nothing(own: Postgres, serve: Serve) -> None:
    """Not their events, and with users of their own not their tables either."""
    services = []
    for user in ("one", "two"):
        own.query(f"CREATE ROLE {user} LOGIN; GRANT CREATE ON DATABASE postgres TO {user}")
        own.query(f"CREATE SCHEMA {user} AUTHORIZATION {user}")
        services.append(prepared(serve(f"postgresql://{user}@127.0.0.1:{own.port}/postgres")))
    instances = [service.start() for service in services]
    placed = [[each.post("/orders", TEA)[1]["order_id"] for _ in range(10)] for each in instances]
    for service, ids in zip(services, placed, strict=True):
        until(lambda each=service, ids=ids: booked(each) >= set(ids))  # type: ignore[misc]
    assert [booked(service) for service in services] == [set(ids) for ids in placed]
    assert instances[0].get(f"/orders/{placed[0][0]}") == TEA
    assert instances[1].request("GET", f"/orders/{placed[0][0]}")[0] == 404


def test_an_administrator_makes_the_queue(own: Postgres, serve: Serve) -> None:
    """The service's user needs no right to make a schema then."""
    service = serve(f"postgresql://plain@127.0.0.1:{own.port}/postgres")
    succeed(*own.psql, "--file", "app/messaging/queue.sql", cwd=service.folder)
    own.query("CREATE ROLE plain LOGIN; GRANT CREATE ON SCHEMA public TO plain")
    schema = f"SCHEMA mq_{service.name} TO plain"
    own.query(f"GRANT USAGE ON {schema}; GRANT ALL ON ALL TABLES IN {schema}")
    prepared(service).start().post("/orders", TEA)
    until(lambda: booked(service))


def test_what_others_leave_in_the_table_costs_nothing(own: Postgres, serve: Serve) -> None:
    """Rows that nobody serves, and rows that were handled while a backup keeps them in place."""
    service = serve(own.url)
    instance = service.start()
    own.query(GONE.format(service.name))
    own.query(f"VACUUM ANALYZE mq_{service.name}.events")
    backup = ("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 'ready'", "SELECT pg_sleep(300)")
    options = (option for sql in backup for option in ("-c", sql))
    holder = Process(*own.psql, *options, cwd=service.folder).start()
    try:
        holder.until(lambda: "ready" in holder.output())
        assert instance.post("/tick?count=2000") == (200, 0)
        time.sleep(2)  # PostgreSQL's statistics are a second late
        before = int(own.query(BLOCKS.format(service.name)))
        own.query(TICKS.format(service.name))
        until(lambda: waits(own, service) == 135_000)
        time.sleep(2)
        # 200 an event; reading what was handled would be 2,000. Looks while idle are few beside it.
        assert int(own.query(BLOCKS.format(service.name))) - before < 2_000 * 400
    finally:
        holder.close()


def test_it_is_said_if_the_tables_are_missing(service: Service) -> None:
    assert "run `uv run alembic upgrade head`" in service.start().output("stderr")


def test_a_url_as_libpq_prints_it(own: Postgres, serve: Serve) -> None:
    """By a socket, with an empty password, and with parameters that only libpq knows."""
    sockets = Path(tempfile.mkdtemp())  # a socket's path has 107 characters at most
    shutil.chown(sockets, own.user or sockets.owner())
    own.kill()
    own.options = ("-c", f"unix_socket_directories={sockets}")
    own.up()
    for url in (
        f"postgresql://postgres:@/postgres?host={sockets}&port={own.port}",
        f"postgres://postgres@127.0.0.1:{own.port}/postgres?channel_binding=prefer"
        "&connect_timeout=3&sslmode=prefer&application_name=test",
    ):
        service = prepared(serve(url))
        assert service.start().post("/orders", TEA)[0] == 201
        assert service.command("status").returncode == 0


def test_a_new_migration_is_as_ruff_has_it(own: Postgres, serve: Serve) -> None:
    stored = prepared(serve(own.url))
    stored.run("-m", "alembic", "revision", "--autogenerate", "--message", "new")
    assert "3 files already" in stored.run("-m", "ruff", "format", "--check", "migrations").stdout
