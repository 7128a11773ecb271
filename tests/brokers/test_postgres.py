"""With broker=postgres an event is stored in the transaction of the data, or not at all."""

import random
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest

from support.brokers import Given, Postgres
from support.processes import until
from support.services import Instance, Serve, Service

pytestmark = [
    pytest.mark.brokers,
    pytest.mark.parametrize("name", ["postgres"], indirect=True, scope="session"),
]

TEA = {"item": "tea", "quantity": 2}


@pytest.fixture
def stored(own: Postgres, serve: Serve) -> Callable[[], Service]:
    """Makes a service whose tables are in a database of a server of the test's own."""

    def make() -> Service:
        service = serve(own.url)
        shutil.copy(Path(__file__).with_name("books.py"), service.folder / "app" / "handlers")
        migrate(service)
        return service

    return make


def migrate(service: Service) -> None:
    done = service.run("-m", "alembic", "upgrade", "head")
    assert done.returncode == 0, done.stdout + done.stderr


def orders(server: Postgres) -> set[str]:
    """Return the ids of the stored orders."""
    return set(server.query("SELECT id FROM orders").split())


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
def test_kill_9_at_random_moments_under_load(
    own: Postgres, stored: Callable[[], Service], victim: str
) -> None:
    service = stored()
    instances = [service.start() for _ in range(3)]
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
    kept = orders(own)
    assert answered <= kept
    until(lambda: booked(service) == kept, 60, lambda: f"{len(kept)}\n{service}")
    until(lambda: waits(own, service) == 0, 30)
    assert "Dead letters: 0\n" in service.command("dead-letters").stdout


def test_what_ends_badly_stores_and_emits_nothing(
    own: Postgres, stored: Callable[[], Service]
) -> None:
    service = stored()
    instance = service.start()
    for ending, status in (
        ("error", 500),
        ("refusal", 409),
        ("rollback", 200),
        ("commit", 500),
        ("well", 200),
    ):
        assert instance.request("POST", f"/book?ending={ending}")[0] == status, ending

    [well] = orders(own)
    until(lambda: booked(service) == {well}, 20)
    assert waits(own, service) == 0
    count = own.query(f"SELECT pg_sequence_last_value('mq_{service.name}.events_id_seq')")
    assert int(count) > 3  # the others were emitted, and taken back


def test_what_a_listener_emits_joins_its_own_session(
    own: Postgres, stored: Callable[[], Service]
) -> None:
    service = stored()
    service.start().request("POST", "/book?ending=listener")

    listed = service.wait_for_dead_letters(1)

    assert "app.handlers.books.book" in listed
    assert booked(service) == set()  # five attempts emitted, and each failed after that


def test_two_services_on_one_database_share_no_event(
    own: Postgres, stored: Callable[[], Service]
) -> None:
    one, two = stored(), stored()
    first, second = one.start(), two.start()
    placed = {
        service: {instance.post("/orders", TEA)[1]["order_id"] for _ in range(10)}
        for service, instance in ((one, first), (two, second))
    }
    for service, ids in placed.items():
        until(lambda service=service, ids=ids: booked(service) >= ids, 20)  # type: ignore[misc]
    assert {service: booked(service) for service in placed} == placed


def test_two_services_with_users_of_their_own_share_no_table(own: Postgres, serve: Serve) -> None:
    services = []
    for user in ("one", "two"):
        own.query(f"CREATE ROLE {user} LOGIN; GRANT CREATE ON DATABASE postgres TO {user}")
        own.query(f"CREATE SCHEMA {user} AUTHORIZATION {user}")
        services.append(serve(f"postgresql://{user}@127.0.0.1:{own.port}/postgres"))
        migrate(services[-1])
    one, two = (service.start() for service in services)
    _, answer = one.post("/orders", TEA)

    assert one.get(f"/orders/{answer['order_id']}") == TEA
    assert two.request("GET", f"/orders/{answer['order_id']}")[0] == 404
    assert own.query("SELECT count(*) FROM one.orders") == "1"


def test_what_nobody_serves_costs_the_others_nothing(own: Postgres, serve: Serve) -> None:
    """A row that waits for another listener is never read, whatever the planner believes."""
    service = serve(own.url)
    instance = service.start()
    events = f"mq_{service.name}.events"
    own.query(
        f"INSERT INTO {events} (listener, document) "
        "SELECT 'gone' || number % 3, 'x' FROM generate_series(1, 13500) number"
    )
    own.query(f"VACUUM ANALYZE {events}")
    reads = f"""
        SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables
        WHERE schemaname = 'mq_{service.name}' AND relname = 'events'
    """
    before = int(own.query(reads))
    assert instance.post("/tick?count=1000") == (200, 0)
    time.sleep(2)  # PostgreSQL's statistics are a second late
    assert int(own.query(reads)) - before < 13_500


def test_an_old_snapshot_does_not_keep_what_was_handled_in_the_way(
    own: Postgres, serve: Serve
) -> None:
    """While a backup runs, deleted rows stay in the index; each search must not pass them all."""
    service = serve(own.url)
    instance = service.start()
    program = """
import asyncio, sys, asyncpg
async def main(url):
    connection = await asyncpg.connect(url)
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await connection.execute("SELECT 1 FROM pg_class")
    print("ready", flush=True)
    await asyncio.sleep(300)
asyncio.run(main(sys.argv[1]))
"""
    holder = Instance(service.python, "-c", program, own.url, cwd=service.folder).start()
    try:
        holder.wait_for("ready")
        assert instance.post("/tick?count=2000") == (200, 0)
        time.sleep(2)
        before = blocks(own, service)
        assert instance.post("/tick?count=200") == (200, 0)
        time.sleep(2)
        assert blocks(own, service) - before < 200 * 200
    finally:
        holder.close()


def blocks(server: Postgres, service: Service) -> int:
    """Return how many blocks were read of the table of events and of its indexes."""
    return int(
        server.query(f"""
            SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read
            FROM pg_statio_user_tables
            WHERE schemaname = 'mq_{service.name}' AND relname = 'events'
        """)
    )


def test_it_is_said_if_the_tables_are_missing(shared: Given, service: Service) -> None:
    instance = service.start()
    assert "run `uv run alembic upgrade head`" in instance.output("stderr")


def test_a_url_as_libpq_prints_it(own: Postgres, serve: Serve) -> None:
    """By a socket, with an empty password, and with parameters that only libpq knows."""
    sockets = own.data / "sockets"
    sockets.mkdir()
    shutil.chown(sockets, own.user or sockets.owner())
    own.kill()
    own.options = ("-c", f"unix_socket_directories={sockets}")
    own.up()
    for url in (
        f"postgresql://postgres:@/postgres?host={sockets}&port={own.port}",
        f"postgres://postgres@127.0.0.1:{own.port}/postgres?channel_binding=prefer"
        "&connect_timeout=3&sslmode=prefer&application_name=test",
    ):
        service = serve(url)
        migrate(service)
        assert service.start().post("/orders", TEA)[0] == 201
        assert service.command("status").returncode == 0
