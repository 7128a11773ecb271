"""PostgreSQL as the broker: its queue, and what happens while the server is away."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest

from app import bus, database, messaging
from app.bus import emit, on
from app.database import transaction
from app.events import IntegrationEvent
from app.messaging import broker as adapter
from app.messaging import delivery
from app.messaging.cloudevents import decode
from app.messaging.settings import BrokerUnavailable

pytestmark = [
    pytest.mark.usefixtures("empty_bus"),
    pytest.mark.parametrize("run", ["postgres"], indirect=True),
]

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(autouse=True)
def nothing_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No event is handled or repaired yet, and consumers look into the table often."""
    monkeypatch.setattr(adapter, "LOOK_EVERY", 0.05)
    handled.clear()
    repaired.clear()


class Counted(IntegrationEvent):
    """Something to handle."""

    number: int


handled: list[tuple[int, int]] = []
repaired = asyncio.Event()


async def counts(event: Counted) -> None:
    handled.append((event.number, 0))


async def fails(event: Counted) -> None:
    handled.append((event.number, delivery.attempt_number.get()))
    if not repaired.is_set():
        raise ValueError("not repaired \u8336")


async def takes_long(event: Counted) -> None:
    await repaired.wait()
    handled.append((event.number, delivery.attempt_number.get()))


async def listening() -> None:
    """Wait until this process is told what others store."""
    news = delivery.broker.news
    while delivery.broker.news is news:
        with suppress(*database.AWAY):
            await delivery.broker.pool.execute(f"NOTIFY {adapter.SCHEMA}")
        await asyncio.sleep(0.05)


async def all_handled() -> delivery.Backlog:
    """Wait until no listener has an event to handle; return the backlog of the one that fails."""
    async with asyncio.timeout(30):
        while True:
            found = await delivery.status()
            if not any(each.waiting or each.in_hand for each in found.values()):
                return found[f"Counted.{bus.name_of(fails)}"]
            await asyncio.sleep(0.01)


def test_listeners_of_one_event_fail_apart(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What one of them can't handle becomes a dead letter, which can be replayed."""
    monkeypatch.setenv("BROKER_MAX_ATTEMPTS", "2")
    monkeypatch.setenv("BROKER_BACKOFF", "0.01")
    on(Counted)(counts)
    on(Counted)(fails)
    events = [Counted(number=number) for number in range(3)]

    async def main() -> None:
        await delivery.broker.ping()
        async with messaging.consuming():
            for event in events:
                await emit(event)
            assert await all_handled() == delivery.Backlog(dead_letters=3)
            assert [number for number, attempt in handled if not attempt] == [0, 1, 2]
            assert sorted(set(handled) - {(0, 0), (1, 0), (2, 0)}) == [
                (number, attempt) for number in range(3) for attempt in (1, 2)
            ]

            places, letters = zip(*await delivery.broker.dead_letters(), strict=True)
            assert {each.id for each in letters} == {each.id for each in events}
            kept = [decode(each.document, Counted) for each in letters]
            assert sorted(event.number for event, _ in kept) == [0, 1, 2]
            assert {(each.error, each.attempts, each.type) for each in letters} == {
                ("ValueError: not repaired \u8336", 2, "Counted")
            }
            stored = await delivery.broker.pool.fetch(f"SELECT dead_letter FROM {adapter.EVENTS}")
            assert all(each.isascii() for (each,) in stored if each)  # whatever the encoding is
            handled.clear()
            repaired.set()
            await delivery.broker.replay(places[0], letters[0])
            assert await all_handled() == delivery.Backlog(dead_letters=2)
            [(number, attempt)] = handled
            assert (events[number].id, attempt) == (letters[0].id, 1)

    run(main)
    assert "still run" not in caplog.text


def test_an_event_is_handled_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By NOTIFY, also from a transaction; not with the next look into the table."""
    on(Counted)(counts)
    looks, fetchrow = 0, asyncpg.Pool.fetchrow

    async def look(pool: asyncpg.Pool, *query: Any) -> Any:
        nonlocal looks
        looks += 1
        return await fetchrow(pool, *query)

    monkeypatch.setattr(asyncpg.Pool, "fetchrow", look)

    async def main() -> None:
        async with messaging.consuming(), asyncio.timeout(30):
            await listening()
            monkeypatch.setattr(adapter, "LOOK_EVERY", 60)
            await asyncio.sleep(0.3)  # its last look is over
            await emit(Counted(number=1))
            async with transaction():
                await emit(Counted(number=2))
            while len(handled) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            before = looks
            await asyncio.sleep(0.2)
            assert looks < before + 10  # it waits for news, and costs nothing

    run(main)
    assert caplog.messages == []


def test_what_is_in_hand_is_renewed_and_finished(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While its listener works, nobody else takes it; the end waits for it."""
    monkeypatch.setenv("BROKER_LEASE", "0.3")
    on(Counted)(takes_long)
    rows = f"FROM {adapter.EVENTS} WHERE listener = 'Counted.{bus.name_of(takes_long)}'"

    async def main() -> None:
        ask = delivery.broker.pool.fetchval
        async with messaging.consuming(), asyncio.timeout(30):
            await emit(Counted(number=1))
            while not (taken := await ask(f"SELECT due {rows} AND attempts = 1")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while await ask(f"SELECT due {rows}") <= taken:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            repaired.set()
        assert handled == [(1, 1)]
        assert await ask(f"SELECT count(*) {rows}") == 0

    run(main)
    assert "still run" not in caplog.text


def test_a_listener_waits_while_postgresql_is_away(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    on(Counted)(counts)
    errors, fetchrow = [OSError("away"), asyncpg.PostgresError("away")], asyncpg.Pool.fetchrow

    async def breaks(pool: asyncpg.Pool, query: str, *values: Any) -> Any:
        if query == adapter.TAKE and errors:
            raise errors.pop()
        return await fetchrow(pool, query, *values)

    monkeypatch.setattr(asyncpg.Pool, "fetchrow", breaks)

    async def main() -> None:
        async with messaging.consuming(), asyncio.timeout(30):
            await emit(Counted(number=1))
            while not handled:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    run(main)
    name = f"Counted.{bus.name_of(counts)}"
    assert f"{name} waits for PostgreSQL: PostgresError('away')" in caplog.messages


def failing(error: Exception) -> Callable[..., Awaitable[Any]]:
    async def fail(*_: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "said"), [(OSError("gone"), "gone"), (TimeoutError(), "TimeoutError")]
)
def test_what_postgresql_says_is_passed_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    async def main() -> None:
        monkeypatch.setattr(asyncpg.Pool, "execute", failing(error))
        with pytest.raises(delivery.EventNotStored, match=r"127.0.0.1:\d+: \w+Error\("):
            await emit(Counted(number=1))

    run(main)
    monkeypatch.setattr(asyncpg.Pool, "fetchval", failing(error))
    with pytest.raises(BrokerUnavailable, match=rf"can't be used \({said}\)"):
        run(main)


def test_processes_that_start_together_make_one_queue(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = Path(adapter.__file__).with_name("queue.sql").read_text(encoding="utf-8")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    async def main() -> None:
        pool, second = delivery.broker.pool, adapter.Broker([])
        await pool.execute(f"DROP SCHEMA {adapter.SCHEMA} CASCADE")
        async with asyncio.timeout(30), pool.acquire() as first:
            async with first.transaction():
                await first.execute(sql)
                connecting = asyncio.create_task(second.connect())
                while not await pool.fetchval(waiting):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await connecting
        await second.close()

    async def nothing(*_: object) -> None: ...

    run(main)
    monkeypatch.setattr(asyncpg.Pool, "fetchval", nothing)  # as if it was made just after
    run(lambda: asyncio.sleep(0))


def test_once_the_queue_is_there_no_right_to_make_it_is_needed(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        schema = f"SCHEMA {adapter.SCHEMA} TO plainer"
        sql = f"GRANT USAGE ON {schema}; GRANT ALL ON ALL TABLES IN {schema}"
        await delivery.broker.pool.execute(f"CREATE ROLE plainer LOGIN; {sql}")

    async def publish() -> None:
        async with messaging.connected():
            await emit(Counted(number=1))

    run(main)
    monkeypatch.setenv("BROKER_URL", url.replace("postgres@", "plainer@") + "/postgres")
    asyncio.run(publish())


def test_a_process_uses_up_to_31_connections(run: Run) -> None:
    """As README.md says. PostgreSQL doesn't choose a plan by statistics that are out of date."""

    async def main() -> None:
        broker, sessions = delivery.broker, database.sessions.kw["bind"].pool
        sizes = broker.pool.get_max_size(), broker.queue.get_max_size()
        assert sum(sizes) + sessions.size() + sessions._max_overflow == 31
        found = [await broker.queue.fetchval(f"SHOW {name}") for name in adapter.CONSUMER]
        assert found == list(adapter.CONSUMER.values())

    run(main)


def test_it_listens_again_after_its_connection_broke(run: Run) -> None:
    """To what other processes store."""

    async def main() -> None:
        other = await database.connect()
        ours = "FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
        async with asyncio.timeout(30):
            for _ in range(2):
                await listening()
                await other.execute(f"SELECT pg_terminate_backend(pid) {ours}")
        await other.close()

    run(main)
