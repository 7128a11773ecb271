"""What a service meets beside its broker's absence: large events, other loops, questions."""

import pytest

from support.brokers import SERVERS, Broker
from support.processes import until
from support.services import Serve, Service

pytestmark = pytest.mark.brokers

FIRST = "Job.app.handlers.jobs.first"
LIMITED = [name for name in SERVERS if name != "postgres"]  # which takes a gigabyte


@pytest.mark.parametrize("name", LIMITED, indirect=True, scope="session")
def test_an_event_over_the_limit(name: str, own: Broker, serve: Serve) -> None:
    service = serve(own.url)
    if name == "redis":  # which takes half a gigabyte, if it's left alone
        service.program("redis takes a megabyte at most")
    instance = service.start()

    status, answer = instance.post(f"/emit-one?size={17 * 2**20}")

    assert (status, answer) == (413, {"detail": "The event is too large for the broker."})
    assert "bytes, of " in str(instance)  # the log names the limit
    assert instance.post("/emit-one?size=1000000")[0] == 200  # a byte of a megabyte less
    instance.emit(count=1)
    service.wait_for(service.done("accepted"), 20)


def test_emit_in_a_loop_of_its_own(service: Service) -> None:
    instance = service.start()
    assert instance.post("/emit-in-a-thread?number=1")[0] == 200
    assert len(service.done("accepted")) == 1
    service.wait_for(service.done("accepted"), 20)


def test_status(service: Service) -> None:
    instance = service.start()
    instance.emit(count=4, how="slow")
    until(service.begun)
    found = instance.get("/health?verbose=1")["listeners"][FIRST]
    assert found["waiting"] + (found["in_hand"] or 0) >= 2
    assert found["dead_letters"] == 0
    instance.emit(count=1, how="poison")
    service.wait_for_dead_letters(1)
    printed = service.command("status").stdout
    [line] = [line for line in printed.splitlines() if line.startswith(f"{FIRST}  ")]
    assert "waiting: 0" in line
    assert line.endswith("dead_letters: 1")
    again = instance.get("/health?verbose=1")["listeners"][FIRST]
    assert again["dead_letters"] == 1  # they're still there after they have been counted
    assert "Dead letters: 1\n" in service.command("dead-letters").stdout
