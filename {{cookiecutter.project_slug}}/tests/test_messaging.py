"""Events that may leave the process; with BROKER_URL set, also on their way through the engine."""

import asyncio
import json
import os
import socket
import time
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from app import bridge, broker, bus, delivery
from app.bridge import connected
from app.bus import emit, listeners, on
from app.cloudevents import NotOurs, decode, encode
from app.delivery import (
    EngineUnusable,
    EventNotStored,
    Letter,
    Subscription,
    attempt,
    subscriptions,
)
from app.events import OrderPlaced, SharedEvent
from app.handlers.orders import send_receipt
from app.main import app

DEFAULT_URL = broker.DEFAULT_URL
ENGINE = os.environ.pop("BROKER_URL", "")  # all other tests run without
ORDER = OrderPlaced(order_id=uuid4(), item="tea", quantity=2)


class FakeEngine:
    """Keeps what it is given in a list, or refuses it."""

    def __init__(self, url: str, subscriptions: list[Subscription]) -> None:
        self.kept: list[tuple[str, str, bytes, str]] = []
        self.away = False

    async def connect(self) -> None: ...

    async def consume(self) -> None: ...

    async def finish(self) -> None: ...

    async def close(self) -> None: ...

    async def store(
        self, event_type: str, event_id: str, document: bytes, to: str = "", key: str = ""
    ) -> None:
        if self.away:
            raise EventNotStored("away")
        self.kept.append((event_type, event_id, document, key))

    async def answers(self) -> bool:
        return not self.away


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine("", [])
    monkeypatch.setattr(bridge, "Engine", lambda url, subscriptions: engine)
    monkeypatch.setenv("BROKER_URL", DEFAULT_URL)
    return engine


def test_without_an_engine_listeners_run_here(client: TestClient) -> None:
    assert "Receipt sent" in asyncio.run(emit(ORDER))
    assert client.get("/health").json() == {"status": "ok"}


def test_with_an_engine_shared_events_go_there(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    with TestClient(app) as client:
        response = client.post("/orders", json={"item": "tea", "quantity": 2})

    assert response.status_code == 201
    [(event_type, event_id, document, key)] = engine.kept
    assert event_type == "OrderPlaced"
    assert json.loads(document)["id"] == event_id
    assert json.loads(document)["data"]["order_id"] == key == response.json()["order_id"]
    assert capsys.readouterr().out == "App is starting\nCleanup done\n"  # and no receipt
    assert "Receipt sent" in asyncio.run(emit(ORDER))  # the engine is left behind


def test_emit_gives_the_id_of_what_was_stored(engine: FakeEngine) -> None:
    async def main() -> list[Any]:
        async with connected(DEFAULT_URL):
            return await emit(ORDER)

    assert asyncio.run(main()) == [ORDER.id]


def test_while_the_engine_is_away_the_answer_is_503(engine: FakeEngine) -> None:
    with TestClient(app) as client:
        engine.away = True
        response = client.post("/orders", json={"item": "tea", "quantity": 2})
        health = client.get("/health")

    assert response.status_code == health.status_code == 503
    assert int(response.headers["Retry-After"]) > 0


def test_an_engine_that_is_not_there_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scheme = DEFAULT_URL.partition(":")[0]
    url = f"{scheme}://{address}".replace("//", "//me:secret@")
    monkeypatch.setenv("BROKER_URL", url)

    with pytest.raises(EngineUnusable, match=address) as raised, TestClient(app):
        pass

    assert "secret" not in str(raised.value)


def test_what_is_no_url_is_refused() -> None:
    for url in ("localhost", f"{DEFAULT_URL}x", DEFAULT_URL.replace("//", "//me:se/cret@")):
        with pytest.raises(EngineUnusable, match="must look like") as raised:
            delivery.address_of(url, DEFAULT_URL)
        assert "cret" not in str(raised.value)


def test_an_event_survives_the_way_out_and_in() -> None:
    assert decode(encode(ORDER), OrderPlaced) == ORDER


def test_an_event_whose_fields_are_wrong_is_not_sent(engine: FakeEngine) -> None:
    wrong = OrderPlaced(order_id=uuid4(), item="tea", quantity="many")  # type: ignore[arg-type]

    async def main() -> None:
        async with connected(DEFAULT_URL):
            await emit(wrong)

    with pytest.raises(ValidationError, match="quantity"):
        asyncio.run(main())
    assert not engine.kept


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"\xff", "Invalid JSON"),
        (b"{}", "specversion: Field required"),
        (encode(ORDER).replace(b'"1.0"', b'"2.0"'), "specversion"),
        (encode(ORDER).replace(b"OrderPlaced", b"OrderLost"), "its type is 'OrderLost'"),
        (encode(ORDER).replace(b"quantity", b"number"), "number: Unexpected keyword"),
    ],
)
def test_what_is_not_ours_becomes_a_letter(document: bytes, reason: str) -> None:
    with pytest.raises(NotOurs, match=reason):
        decode(document, OrderPlaced)

    letter = asyncio.run(attempt(subscriptions()[0], document, 0))

    assert isinstance(letter, Letter)
    assert reason in letter.error
    assert letter.content == document


@pytest.mark.usefixtures("empty_bus")
def test_five_tries_then_a_letter() -> None:
    @on(OrderPlaced)
    async def broken(event: OrderPlaced) -> None:
        raise ValueError("broken")

    subscription = Subscription(OrderPlaced, broken, "name")
    delivery.here.clear()
    outcomes = [asyncio.run(attempt(subscription, encode(ORDER), tried)) for tried in range(5)]
    delivery.here.clear()

    assert outcomes[:4] == [1, 2, 4, 8]
    letter = outcomes[4]
    assert isinstance(letter, Letter)
    assert (letter.id, letter.listener, letter.tries) == (ORDER.id, "name", 5)
    assert letter.error == "ValueError: broken"


def test_each_listener_has_a_subscription() -> None:
    assert send_receipt in listeners(OrderPlaced)
    assert "OrderPlaced.app.handlers.orders.send_receipt" in [each.name for each in subscriptions()]


@pytest.mark.usefixtures("empty_bus")
def test_two_listeners_of_one_name_are_refused() -> None:
    for _ in range(2):

        async def twin(event: SharedEvent) -> None: ...

        twin.__qualname__ = "twin"
        on(SharedEvent)(twin)
    with pytest.raises(EngineUnusable, match=r"2 listeners are called .*twin; rename"):
        subscriptions()


def test_to_order_by_what_is_no_field_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrderPlaced, "ordered_by", "colour")

    with pytest.raises(EngineUnusable, match="OrderPlaced has no field colour"):
        subscriptions()


@pytest.mark.usefixtures("empty_bus")
def test_a_listener_without_a_name_is_refused() -> None:
    on(OrderPlaced)(lambda event: None)

    with pytest.raises(EngineUnusable, match=r"lambda> needs a name that stays"):
        subscriptions()


def test_asyncapi(client: TestClient) -> None:
    operations = client.get("/asyncapi.json").json()["operations"]

    assert operations["OrderPlaced"]["action"] == "send"
    assert operations["OrderPlaced.app.handlers.orders.send_receipt"]["action"] == "receive"
    assert "OrderPlaced" in client.get("/asyncapi").text


@pytest.mark.skipif(not ENGINE, reason="BROKER_URL is not set: docker compose up -d engine")
def test_an_order_through_the_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKER_URL", ENGINE)
    with TestClient(app) as client:
        response = client.post("/orders", json={"item": "tea", "quantity": 2})
        receipt, output = f"Receipt for order {response.json()['order_id']}\n", ""
        deadline = time.monotonic() + 20
        while receipt not in output:
            assert time.monotonic() < deadline, "no receipt; does another instance take the events?"
            time.sleep(0.1)
            output += capsys.readouterr().out
        assert client.get("/health").status_code == 200
    assert type(bus.calls).__name__ == "_Calls"
