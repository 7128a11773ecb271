"""What a service meets beside its broker's absence: large events, questions, versions."""

import time
from itertools import permutations

import pytest

from support.brokers import SERVERS, Broker
from support.cases import cases
from support.processes import until
from support.services import PROGRAMS, Serve, Service

pytestmark = pytest.mark.brokers

NOT_TOLD = {"kafka": {"in_hand"}, "rabbitmq": {"in_hand", "oldest"}}  # by the broker
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
    service.wait_for(service.done("accepted"))


def test_status(service: Service, name: str) -> None:
    instance = service.start()
    instance.emit(count=1, how="endless")
    until(service.begun)
    instance.emit(count=3, start=1)
    time.sleep(1)  # it grows older
    found = instance.get("/health?verbose=1")["listeners"][FIRST]
    assert 2 <= found["waiting"] + (found["in_hand"] or 0) <= 4
    assert {each for each in found if found[each] is None} == NOT_TOLD.get(name, set())
    assert (found["oldest"] != 0, found["dead_letters"]) == (True, 0)
    instance.emit(count=1, how="poison")
    service.wait_for_dead_letters(1)
    in_hand = "-" if name in NOT_TOLD else "0"
    line = f"{FIRST}  waiting: 0  oldest: -  in_hand: {in_hand}  dead_letters: 1"
    until(lambda: line in service.command("status").stdout.splitlines())
    assert instance.get("/health?verbose=1")["listeners"][FIRST]["dead_letters"] == 1  # it stays


def test_versions_side_by_side(service: Service) -> None:
    """In a rolling deployment, as README says that a field is added, renamed and removed."""
    for fields, values in cases(__file__, "faults")["versions"]:
        program = PROGRAMS["an event with fields"]
        program = program.replace("FIELDS", fields).replace("VALUES", values)
        (service.folder / "app" / "handlers" / "parcels.py").write_text(program, encoding="utf-8")
        service.start()
        until(lambda: each_handles_what_the_other_sent(service))
        service.wait_for(service.done("accepted"), listeners=["carry"])
        for older in service.instances[-2:-1]:
            older.end()
    assert "Dead letters: 0\n" in service.command("dead-letters").stdout


def each_handles_what_the_other_sent(service: Service) -> bool:
    newest = service.instances[-2:]
    for each in newest:
        assert each.post("/parcels")[0] == 200
    ways = {(note.number, note.pid) for note in service.notes() if note.who == "carry"}
    return {(one.pid, other.pid) for one, other in permutations(newest, 2)} <= ways
