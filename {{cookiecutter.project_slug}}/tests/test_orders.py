"""From a request to an event to its listeners: the example to grow."""

from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from app.bus import listeners
from app.events import Event, OrderPlaced
from app.handlers.orders import send_receipt


def test_an_order_is_an_event(client: TestClient, emitted: list[Event]) -> None:
    response = client.post("/orders", json={"item": "tea", "quantity": 2})

    assert response.status_code == 201
    order_id = UUID(response.json()["order_id"])
    [event] = emitted
    assert isinstance(event, OrderPlaced)
    assert (event.order_id, event.item, event.quantity) == (order_id, "tea", 2)


def test_the_receipt_is_sent(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert send_receipt in listeners(OrderPlaced)

    order_id = client.post("/orders", json={"item": "tea", "quantity": 2}).json()["order_id"]

    assert f"Receipt for order {order_id}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"quantity": 2}, "item"),
        ({"item": "", "quantity": 2}, "item"),
        ({"item": "tea"}, "quantity"),
        ({"item": "tea", "quantity": 0}, "quantity"),
        ({"item": "tea", "quantity": "two"}, "quantity"),
    ],
)
def test_a_bad_order_is_refused(
    client: TestClient, emitted: list[Event], order: dict[str, Any], field: str
) -> None:
    response = client.post("/orders", json=order)

    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["detail"]] == [["body", field]]
    assert emitted == []
