"""Integration events; with BROKER_URL set, also on their way through the broker."""

import asyncio
import io
import json
import os
import runpy
import socket
import sys
import threading
import time
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from app import bus, messaging
from app.bus import emit, listeners, on
from app.events import IntegrationEvent, OrderPlaced
from app.handlers.orders import send_receipt
from app.main import app
from app.messaging import broker as adapter
from app.messaging import delivery, settings
from app.messaging.cloudevents import decode, encode, trace
from app.messaging.delivery import (
    Backlog,
    DeadLetter,
    EventNotStored,
    Subscription,
    attempt,
    subscriptions,
)
from app.messaging.settings import EXAMPLE_URL, BrokerUnavailable

TEST_BROKER_URL = os.environ.get("TEST_BROKER_URL", "")  # of a server for tests alone
ORDER = OrderPlaced(order_id=uuid4(), item="tea", quantity=2)


class FakeBroker:
    """Keeps what is published in a list, or refuses it."""

    max_bytes = 100_000

    def __init__(self) -> None:
        self.published: list[tuple[str, str, bytes, str]] = []
        self.letters: list[DeadLetter] = []
        self.away = False

    async def connect(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def consume(self) -> None: ...

    async def finish(self) -> None: ...

    async def close(self) -> None: ...

    async def publish(self, event_type: str, event_id: str, document: bytes, key: str) -> None:
        assert asyncio.get_running_loop() is self.loop  # no client may be used in another one
        await self.ping()
        self.published.append((event_type, event_id, document, key))

    async def ping(self) -> None:
        if self.away:
            raise EventNotStored("away")

    async def backlog(self, subscription: Subscription) -> Backlog:
        return Backlog(waiting=len(subscription.name))

    async def dead_letters(self) -> list[tuple[int, DeadLetter]]:
        return list(enumerate(self.letters))


# % if cookiecutter.broker == "postgres"
@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, url: str) -> FakeBroker:
    broker = FakeBroker()
    monkeypatch.setattr(adapter, "Broker", lambda subscriptions: broker)
    monkeypatch.setenv("BROKER_URL", url)  # the data is there
    return broker


# % else
@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    broker = FakeBroker()
    monkeypatch.setattr(adapter, "Broker", lambda subscriptions: broker)
    monkeypatch.setenv("BROKER_URL", EXAMPLE_URL)
    return broker


# % endif
@pytest.fixture
def default_settings() -> None:
    settings.load()


def publish(event: IntegrationEvent) -> list[Any]:
    async def main() -> list[Any]:
        async with messaging.connected():
            return await emit(event)

    return asyncio.run(main())


def test_without_a_broker_listeners_run_here(client: TestClient) -> None:
    assert "Receipt sent" in asyncio.run(emit(ORDER))
    assert client.get("/health?verbose=1").json() == {"status": "ok"}


def test_with_a_broker_integration_events_are_published(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    with TestClient(app) as client:
        response = client.post("/orders", json={"item": "tea", "quantity": 2})

    assert response.status_code == 201
    [(event_type, event_id, document, key)] = broker.published
    assert event_type == "OrderPlaced"
    assert json.loads(document)["id"] == event_id
    assert json.loads(document)["data"]["order_id"] == key == response.json()["order_id"]
    printed = capsys.readouterr().out
    assert "App is starting" in printed
    assert "Receipt" not in printed
    another = ORDER.model_copy(update={"order_id": uuid4()})
    assert "Receipt sent" in asyncio.run(emit(another))  # the broker is left behind


def test_emit_returns_nothing_for_a_published_event(broker: FakeBroker) -> None:
    assert publish(ORDER) == []
    assert len(broker.published) == 1


def test_emit_in_a_loop_of_its_own(broker: FakeBroker) -> None:
    """As in a `def` route, which runs in a thread, and calls `asyncio.run(emit(event))`."""

    async def main() -> list[Any]:
        async with messaging.connected():
            return await asyncio.to_thread(lambda: asyncio.run(emit(ORDER)))

    assert asyncio.run(main()) == []
    assert [event_id for _, event_id, *_ in broker.published] == [ORDER.id]


def test_while_the_broker_is_away_the_answer_is_503(broker: FakeBroker) -> None:
    with TestClient(app) as client:
        broker.away = True
        response = client.post("/orders", json={"item": "tea", "quantity": 2})
        health = client.get("/health")

    assert response.status_code == health.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert int(health.headers["Retry-After"]) > 0


# % if cookiecutter.broker != "postgres"
def test_an_event_over_the_brokers_limit_is_413(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    with TestClient(app) as client:
        response = client.post("/orders", json={"item": "t" * 100_000, "quantity": 2})

    assert response.status_code == 413
    assert "bytes, of 100000" in caplog.text
    assert not broker.published


# % endif
def test_a_broker_that_is_away_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scheme = EXAMPLE_URL.partition(":")[0]
    monkeypatch.setenv("BROKER_URL", f"{scheme}://{address}".replace("//", "//me:secret@"))

    with pytest.raises(BrokerUnavailable, match=address) as raised, TestClient(app):
        pass

    assert "secret" not in str(raised.value)


def test_a_malformed_url_is_refused() -> None:
    scheme = EXAMPLE_URL.partition("//")[0]
    assert settings.address_of(f"{scheme}//me:se%2Fcret@a:1/x?y") == f"{scheme}//a:1"
    assert settings.address_of(f"{scheme}//a:65535") == f"{scheme}//a:65535"
    wrong = ["me:se/cret@a:1", "a:1x", "a:", "a:0", "a:65536", "[::1]:123456", "a:1,b:-1"]
    for url in ("localhost", "http://localhost:1", *(f"{scheme}//{each}" for each in wrong)):
        with pytest.raises(BrokerUnavailable, match="must look like") as raised:
            settings.address_of(url)
        assert "cret" not in str(raised.value)


def test_an_event_survives_the_way_out_and_in() -> None:
    assert decode(encode(ORDER), OrderPlaced) == (ORDER, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_LEASE", "abc"),
        ("BROKER_LEASE", "inf"),
        ("BROKER_BACKOFF", "1s"),
        ("BROKER_TIMEOUT", "nan"),
        ("BROKER_SHUTDOWN_TIMEOUT", "1e300"),
        ("BROKER_CONCURRENCY", "0"),
        ("BROKER_MAX_ATTEMPTS", "1.5"),
    ],
)
def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(BrokerUnavailable, match=f"^{name}: Input should be"), TestClient(app):
        pass


def test_an_empty_setting_is_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_LEASE", "")
    settings.load()
    assert settings.settings.lease == 30


def test_the_end_waits_so_long_for_a_listener_that_hangs(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKER_SHUTDOWN_TIMEOUT", "0.01")
    cancelled = threading.Event()

    async def finish() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()

    monkeypatch.setattr(broker, "finish", finish)
    with TestClient(app):
        pass

    assert cancelled.is_set()
    assert "Cleanup done" in capsys.readouterr().out


T = TypeVar("T")


def test_so_does_one_with_bytes_and_of_a_generic_class() -> None:
    class Scanned(IntegrationEvent, Generic[T]):
        picture: bytes
        found: T

    event = Scanned[dict[str, int]](picture=b"\xff\x00", found={"tea": 1})

    assert decode(encode(event), type(event)) == (event, {})
    assert delivery.safe(type(event).__name__) == "Scanned-5bdict-5bstr-2c-20int-5d-5d"
    assert delivery.safe("Caf\u00e9") == "Caf-e9"


def test_an_unknown_field_is_ignored() -> None:
    """A newer instance may have sent it."""
    document = json.loads(encode(ORDER))
    document["data"]["unknown_to_this_version"] = "red"
    document["dataschema"] = "https://example.org/2"

    assert decode(json.dumps(document).encode(), OrderPlaced) == (ORDER, {})


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"\xff", "Invalid JSON"),
        (b"{}", "specversion: Field required"),
        (b"[]", "Input should be an object"),
        (encode(ORDER).replace(b'"1.0"', b'"2.0"'), "specversion"),
        (
            encode(ORDER).replace(b"OrderPlaced", b"OrderLost"),
            "type: Input should be 'OrderPlaced'",
        ),
        (encode(ORDER).replace(b"quantity", b"number"), "data.quantity: Field required"),
        (encode(ORDER).replace(b'"tea"', b'"\xff"'), "Invalid JSON"),
    ],
)
def test_an_invalid_document_is_a_dead_letter(document: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(document, OrderPlaced)

    letter = asyncio.run(attempt(subscriptions()[0], document, 1))

    assert isinstance(letter, DeadLetter)
    assert reason in letter.error
    assert letter.attempts == 1
    assert letter.document == document
    assert UUID(letter.id)  # the event's, if it can be read


@pytest.mark.usefixtures("empty_bus", "default_settings")
def test_five_attempts_then_a_dead_letter(caplog: pytest.LogCaptureFixture) -> None:
    numbers: list[int] = []

    @on(OrderPlaced)
    async def broken(event: OrderPlaced) -> None:
        assert event == ORDER
        numbers.append(delivery.attempt_number.get())
        error = ValueError("caf\udce9")  # as in a file's name that isn't UTF-8
        error.add_note("and more")
        raise error

    subscription = Subscription(OrderPlaced, broken, "OrderPlaced", "name")
    outcomes = [asyncio.run(attempt(subscription, encode(ORDER), number)) for number in range(1, 7)]

    assert numbers == [1, 2, 3, 4, 5]
    assert outcomes[:4] == [1, 2, 4, 8]
    said = (
        "ValueError: caf?\nand more",
        "ChildProcessError: the process ended in each of 5 attempts",
    )
    for letter, error in zip(outcomes[4:], said, strict=True):
        assert isinstance(letter, DeadLetter)
        assert (letter.id, letter.listener, letter.attempts) == (ORDER.id, "name", 5)
        assert letter.error == error
        assert DeadLetter.model_validate_json(letter.model_dump_json()).error == letter.error
    assert caplog.records[0].getMessage() == "name failed, attempt 1"


class Panic(BaseException):
    """As an extension in Rust raises it."""


@pytest.mark.usefixtures("empty_bus", "default_settings")
@pytest.mark.parametrize("error", [Panic("a"), BaseExceptionGroup("all", [Panic("a")])])
def test_whatever_a_listener_raises_is_a_failed_attempt(error: BaseException) -> None:
    async def broken(event: OrderPlaced) -> None:
        raise error

    subscription = Subscription(OrderPlaced, broken, "OrderPlaced", "name")
    assert asyncio.run(attempt(subscription, encode(ORDER), 1)) == 1


@pytest.mark.usefixtures("default_settings")
def test_what_ends_the_process_is_no_failed_attempt() -> None:
    started = asyncio.Event()

    async def hangs(event: OrderPlaced) -> None:
        started.set()
        await asyncio.sleep(60)

    async def interrupted(event: OrderPlaced) -> None:
        raise KeyboardInterrupt

    async def cancelled() -> None:
        subscription = Subscription(OrderPlaced, hangs, "OrderPlaced", "name")
        task = asyncio.create_task(attempt(subscription, encode(ORDER), 1))
        await started.wait()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    subscription = Subscription(OrderPlaced, interrupted, "OrderPlaced", "name")
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(attempt(subscription, encode(ORDER), 1))


@pytest.mark.usefixtures("default_settings")
@pytest.mark.parametrize(("takes", "ended"), [(0.01, ["ended"]), (60, [])])
def test_a_renewal_does_not_overtake_the_outcome(
    monkeypatch: pytest.MonkeyPatch, takes: float, ended: list[str]
) -> None:
    monkeypatch.setattr(settings.settings, "lease", 0.03)
    monkeypatch.setattr(settings.settings, "timeout", 5 if ended else 0.01)
    renewals, renewing = [], asyncio.Event()

    async def renew() -> None:
        renewing.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(takes)  # a database driver cancels its query
            renewals.append("ended")

    async def waits(event: OrderPlaced) -> None:
        await renewing.wait()

    async def main() -> None:
        subscription = Subscription(OrderPlaced, waits, "OrderPlaced", "name")
        async with asyncio.timeout(30):
            assert await attempt(subscription, encode(ORDER), 1, renew) is None
        assert renewals == ended
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.usefixtures("default_settings")
def test_while_a_listener_works_its_event_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the broker has been away. What the listener emits belongs to the same trace."""
    seconds, sleep = [], asyncio.sleep
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    renewed, often = 0, asyncio.Event()

    async def renew() -> None:
        nonlocal renewed
        renewed += 1
        if renewed == 3:
            often.set()
        raise OSError("away")

    async def no_sleep(delay: float) -> None:
        seconds.append(delay)
        await sleep(0)

    async def slow(event: OrderPlaced) -> None:
        assert trace.get() == parent
        await asyncio.wait_for(often.wait(), 30)

    async def main() -> None:
        document = json.dumps(json.loads(encode(ORDER)) | parent).encode()
        subscription = Subscription(OrderPlaced, slow, "OrderPlaced", "name")
        assert await attempt(subscription, document, 1, renew) is None
        before = renewed
        await sleep(0.1)
        assert renewed == before  # it has ended

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    asyncio.run(main())
    assert set(seconds) == {settings.settings.lease / 3}


def test_the_status_has_dead_letters_of_listeners_that_are_gone(broker: FakeBroker) -> None:
    names = ["OrderPlaced.app.handlers.orders.send_receipt", "gone", "gone"]
    about: Any = {"type": "OrderPlaced", "error": "broken", "attempts": 5}
    broker.letters = [DeadLetter(id="1", listener=name, **about) for name in names]

    with TestClient(app) as client:
        status = client.get("/health?verbose=1").json()["listeners"]

    found = {name: (each["waiting"], each["dead_letters"]) for name, each in status.items()}
    assert (found[names[0]], found["gone"]) == ((len(names[0]), 1), (0, 2))


def test_dead_letters_are_listed_in_any_code_page(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    about: Any = {"listener": "gone", "type": "OrderPlaced", "attempts": 5}
    broker.letters = [DeadLetter(id="1", error="no \u8336", **about)]
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "cp1252", write_through=True))
    monkeypatch.setattr(sys, "argv", ["app.messaging", "dead-letters"])

    runpy.run_module("app.messaging", run_name="__main__")

    assert b"no \\u8336" in printed.getvalue()


def test_each_listener_has_a_subscription() -> None:
    assert send_receipt in listeners(OrderPlaced)
    name = "OrderPlaced.app.handlers.orders.send_receipt"
    assert Subscription(OrderPlaced, send_receipt, "OrderPlaced", name) in subscriptions()


@pytest.mark.usefixtures("empty_bus")
def test_two_listeners_of_one_name_are_refused() -> None:
    for _ in range(2):

        async def twin(event: IntegrationEvent) -> None: ...

        twin.__qualname__ = "twin"
        on(IntegrationEvent)(twin)
    with pytest.raises(BrokerUnavailable, match=r"twin must be one def or class"):
        subscriptions()


@pytest.mark.usefixtures("empty_bus")
def test_a_listener_without_a_lasting_name_is_refused() -> None:
    on(OrderPlaced)(lambda event: None)

    with pytest.raises(BrokerUnavailable, match=r"lambda> must be one def .* module's top level"):
        subscriptions()


@pytest.mark.parametrize("field", ["id", "time"])
def test_an_event_has_no_id_of_its_own(field: str) -> None:
    with pytest.raises(TypeError, match="Read has an id and a time already"):
        type("Read", (IntegrationEvent,), {"__annotations__": {field: int}})


def test_a_partition_key_may_be_none(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    class Visited(IntegrationEvent):
        partition_key = "customer"
        customer: str | None = None

    monkeypatch.setattr(delivery, "event_types", lambda: [Visited])
    publish(Visited())
    publish(Visited(customer="me"))
    assert [key for *_, key in broker.published] == ["", "me"]


def test_a_partition_key_must_name_a_field() -> None:
    with pytest.raises(TypeError, match="Painted: partition_key must name a field"):

        class Painted(IntegrationEvent):
            partition_key = "colour"


def test_asyncapi(client: TestClient) -> None:
    document = client.get("/asyncapi.json").json()

    sends = document["operations"]["OrderPlaced"]
    receives = document["operations"]["OrderPlaced.app.handlers.orders.send_receipt"]
    assert (sends["action"], receives["action"]) == ("send", "receive")
    assert sends["channel"] == receives["channel"] == {"$ref": "#/channels/OrderPlaced"}
    assert "OrderPlaced" in document["channels"]["OrderPlaced"]["address"]
    assert {"OrderPlaced", "OrderPlacedCloudEvent"} <= set(document["components"]["schemas"])
    assert "OrderPlaced" in client.get("/asyncapi").text


@pytest.mark.skipif(not TEST_BROKER_URL, reason="TEST_BROKER_URL is not set: see README.md")
def test_an_order_through_the_broker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKER_URL", TEST_BROKER_URL)
    with TestClient(app) as client:
        response = client.post("/orders", json={"item": "tea", "quantity": 2})
        receipt, output = f"Receipt for order {response.json()['order_id']}\n", ""
        deadline = time.monotonic() + 60
        while receipt not in output:
            assert time.monotonic() < deadline, "no receipt; does another instance take the events?"
            time.sleep(0.1)
            output += capsys.readouterr().out
        assert client.get("/health").status_code == 200
    assert bus.publish is None


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
@pytest.mark.parametrize(
    "body",
    [b"\xff", b'{"item": "\\ud800", "quantity": 1}', b'{"item": 1e999}', b'"\\udfff"', b"NaN"],
)
def test_a_body_must_be_text(client: TestClient, body: bytes, content_type: str) -> None:
    response = client.post("/orders", content=body, headers={"Content-Type": content_type})

    assert response.status_code in (400, 422)
    assert response.json()["detail"]
