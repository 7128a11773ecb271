"""One order's trace, in one process and through two; and the service without OpenTelemetry."""

import json
from typing import Any
from uuid import uuid4

import pytest

from support.brokers import StartBroker
from support.processes import until
from support.projects import Bake
from support.services import PROGRAMS, Service

pytestmark = pytest.mark.brokers

ORDER = PROGRAMS["one order"]
RECEIPT = "OrderPlaced app.handlers.orders.send_receipt"


def spans(printed: str) -> dict[str, Any]:
    """Return the spans in what a process printed, by name."""
    found = [json.loads(line) for line in printed.splitlines() if line.startswith('{"name"')]
    return {span["name"]: span for span in found}


def test_an_orders_trace_in_one_process_and_through_two(bake: Bake, broker: StartBroker) -> None:
    project = bake(project_slug=f"t{uuid4().hex[:8]}", broker="nats", lesson="none")
    project.edit("pyproject.toml", "dependencies = [", 'dependencies = ["opentelemetry-sdk>=1.30",')
    project.write("app/handlers/provider.py", PROGRAMS["spans are printed"])
    one = spans((alone := project.run("-c", ORDER)).stdout)
    assert set(one) == {"request", RECEIPT}, alone
    service = Service(project, broker("nats").url)
    instance = service.start()
    try:
        emitter = project.run("-c", ORDER, **service.environment)
        assert set(spans(emitter.stdout)) == {"request"}, emitter
        receipt = until(lambda: spans(instance.output()).get(RECEIPT), lambda: service)
    finally:
        instance.close()
    two = spans(emitter.stdout) | {RECEIPT: receipt}
    for found, kind in (one, "INTERNAL"), (two, "CONSUMER"):
        request, receipt = found["request"], found[RECEIPT]
        assert receipt["context"]["trace_id"] == request["context"]["trace_id"]
        assert receipt["parent_id"] == request["context"]["span_id"]
        assert receipt["kind"] == f"SpanKind.{kind}"


def test_without_opentelemetry(bake: Bake) -> None:
    missing = "import sys; sys.modules['opentelemetry'] = None\n"
    code = missing + ORDER.replace("import app.main\n", "")  # FastAPI requires OpenTelemetry's API
    done = bake(broker="nats", lesson="none").run("-c", code)
    assert done.stdout.splitlines()[-1:] == ["0 False"], done
