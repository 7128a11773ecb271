"""The promise that every broker keeps, against its real server; each count is a count of ids."""

import json
import signal
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import pairwise, takewhile
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest

from support.brokers import Broker
from support.processes import until
from support.projects import Bake
from support.services import LISTENERS, PROGRAMS, Serve, Service

pytestmark = pytest.mark.brokers


@pytest.mark.parametrize("what", ["killed", "ended", "stalled"])
def test_what_happens_to_an_instance_under_load(service: Service, what: str) -> None:
    keeper, victims, enough = service.start(BROKER_TIMEOUT="30"), set(), Event()
    starts = takewhile(lambda _: not enough.wait(0.2), range(0, 30_000, 200))
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        stack.callback(enough.set)
        emitting = pool.submit(sum, (keeper.emit(count=200, start=at, width=20) for at in starts))
        for _ in range(3):
            victim = service.start(BROKER_TIMEOUT="30")
            victims.add(victim.pid)
            until(lambda: victims <= {note.pid for note in service.notes() if note.who == "first"})
            if what == "killed":
                victim.kill()
            elif what == "ended":
                victim.end()
            else:
                victim.send(signal.SIGSTOP)
                time.sleep(4)  # longer than the lease
                victim.send(signal.SIGCONT)
    assert emitting.result() == 0
    keeper.emit(count=100, start=30_000)
    service.wait_for(service.done("accepted"))
    first = [note for note in service.notes() if note.who == "first"]
    assert {note.pid for note in first} > {keeper.pid}  # the others did work, too
    begun = sorted(note[1:4] for note in first if note.what == "begins")
    done = sorted(note[1:4] for note in first if note.what == "done")
    assert what == "killed" or begun == done  # nobody was stopped in the middle
    assert "Dead letters: 0\n" in service.command("dead-letters").stdout


def test_sigterm_finishes_what_is_in_hand_and_takes_nothing_new(service: Service) -> None:
    instance = service.start()
    instance.emit(count=1, how="endless")
    until(service.begun)
    instance.emit(count=4, start=1)
    instance.end()

    assert [note.what for note in service.notes() if note.who == "first"] == ["begins", "done"]
    service.start()
    service.wait_for(service.done("accepted"))


def test_sigterm_does_not_wait_for_ever(service: Service) -> None:
    instance = service.start(BROKER_SHUTDOWN_TIMEOUT="1")
    instance.emit(count=1, how="hung")
    until(service.begun)
    instance.end()
    service.start()
    until(lambda: len(service.begun()) == 2)  # it's delivered again


def test_a_listener_may_take_longer_than_the_lease(service: Service) -> None:
    service.start(BROKER_LEASE="7")
    other = service.start(BROKER_LEASE="7")
    other.emit(count=1, how="endless")
    service.wait_for(service.done("accepted"))
    assert len(service.begun()) == 1


def test_an_instance_comes_while_a_listener_takes_longer_than_the_lease(service: Service) -> None:
    one = service.start()
    one.emit(count=1, how="endless")
    until(service.begun)
    service.start().emit(count=50, start=1)
    service.wait_for(service.done("accepted"))
    one.end()
    begun = [note.id for note in service.begun() if note.number == 0]
    assert len(begun) <= 2  # where instances share anew, it may come to the new one as well
    assert len(set(begun)) == 1


def test_a_new_listener_hears_what_comes_after_its_first_start(service: Service) -> None:
    instance = service.start()
    instance.emit(count=20)
    before = service.done("accepted")
    service.wait_for(before)
    instance.end()
    (service.folder / "app/handlers/later.py").write_text(PROGRAMS["a third listener"], "utf-8")
    for _ in range(3):  # all at the same time
        service.new()
    for each in service.instances[1:]:
        each.well()
        each.emit(count=20, start=20)
    service.wait_for(service.done("accepted") - before, listeners=(*LISTENERS, "third"))
    assert not service.done("third") & before


def test_the_broker_killed_and_started_again_under_load(own: Broker, serve: Serve) -> None:
    service = serve(own.url)
    instance = service.start()
    with ThreadPoolExecutor(1) as pool:
        emitting = pool.submit(instance.emit, count=3_000, width=10)
        for _ in range(2):
            time.sleep(1)
            own.kill()
            time.sleep(1)
            own.up()
            instance.well()
        emitting.result()
    accepted = service.done("accepted")
    assert accepted
    service.wait_for(accepted)

    instance.emit(count=10, how="slow", width=10)  # full stop, with events waiting
    instance.kill()
    own.kill()
    own.up()
    service.start()
    service.wait_for(service.done("accepted"))


def test_the_broker_cut_off_and_back(own: Broker, serve: Serve) -> None:
    proxy = own.proxy
    proxy.open()
    service = serve(own.url.replace(str(own.port), str(proxy.port)))
    instance = service.start()
    assert instance.request("POST", "/emit-one?number=1")[0] == 200
    proxy.cut()
    instance.until(lambda: instance.request("GET", "/health")[0] == 503)
    status, _, headers = instance.request("POST", "/emit-one?number=2")
    assert (status, headers["Retry-After"].isdigit()) == (503, True)
    time.sleep(4)  # longer than the lease: Kafka takes a client for dead
    proxy.open()
    instance.well()
    assert instance.request("POST", "/emit-one?number=3")[0] == 200
    service.wait_for(service.done("accepted"))
    assert {note.number for note in service.notes()} >= {1, 3}
    instance.end()


def test_poison_and_its_replay(service: Service) -> None:
    instance = service.start(BROKER_LEASE="10")
    instance.emit(count=3, how="mend")
    ids = sorted(service.done("accepted"))
    instance.emit(count=20, start=3)
    service.wait_for(service.done("accepted") - {*ids})  # it starves nothing
    service.wait_for({*ids}, listeners=["second"])  # the other listener is not concerned
    listed = service.wait_for_dead_letters(3)
    assert Counter(each.id for each in service.begun() if each.number < 3) == dict.fromkeys(ids, 5)
    for text in ("Job.app.handlers.jobs.first", "attempts: 5", "ValueError: not before it's"):
        assert listed.count(text) == 3
    Path(f"{service.log}.mended").touch()

    assert "Nothing was replayed" in service.command("replay", "no-such-id").stderr
    assert "only replay takes an ID" in service.command("status", ids[0]).stderr
    assert service.command("replay", ids[0]).stdout == "Replayed: 1\n"
    service.wait_for({ids[0]})
    assert not {*ids[1:]} & service.done("first")
    assert "Dead letters: 2\n" in service.command("dead-letters").stdout
    assert service.command("replay").stdout == "Replayed: 2\n"
    service.wait_for({*ids})

    assert "Dead letters: 0\n" in service.command("dead-letters").stdout
    assert sum(note.who == "second" for note in service.notes()) == 23


def test_waits_grow(service: Service) -> None:
    instance = service.start(BROKER_BACKOFF="0.5", BROKER_LEASE="15")
    instance.emit(count=1, how="poison")
    until(lambda: len(service.begun()) == 5)
    waits = [after.at - before.at for before, after in pairwise(service.begun())]
    for wait, least in zip(waits, (0.5, 1, 2, 4), strict=True):
        assert least - 0.2 < wait < least + 9, waits  # the lease is 15


def test_an_event_that_ends_the_process_is_given_up(service: Service) -> None:
    """Each process that dies was a try; of the other listener too, if it had the event in hand."""
    with suppress(OSError):  # it takes the emitter with it
        service.start().emit(count=1, how="deadly")
    listed = ""

    def given_up() -> bool:
        nonlocal listed
        if not service.instances[-1].runs:
            service.new()
        listed = service.command("dead-letters").stdout
        return "Job.app.handlers.jobs.first" in listed

    until(given_up, lambda: f"{listed}\n{service}")
    assert "the process ended" in listed
    survivor = service.start()
    survivor.emit(count=5, start=1)
    service.wait_for({note.id for note in service.notes() if note.number > 0})


def test_order(service: Service, name: str) -> None:
    """Two instances share; on Kafka jobs with one thing stay in order, elsewhere those of a process."""
    for start in (0, 300):  # with one instance, then with two
        instance = service.start(BROKER_LEASE="10")
        instance.emit(count=300, start=start, things=30, how="brief" if start else "ok")
        service.wait_for(service.done("accepted"))
    handled, pids = defaultdict(list), Counter[int]()
    for note in service.notes():
        if (note.who, note.what) == ("first", "done"):
            handled[note.number % 30 if name == "kafka" else note.pid].append(note.number)
            pids[note.pid] += 1
    assert pids.total() == 600  # once each, as nothing failed
    assert min(pids[each.pid] for each in service.instances) > 30, pids
    for numbers in handled.values():
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("name", ["kafka"], indirect=True, scope="session")
def test_a_listener_that_the_broker_forgot_misses_nothing(service: Service) -> None:
    """Kafka forgets how far a group was a week after it was stopped; its topic is still there."""
    service.program("kafka forgot a group")
    job = {"specversion": "1.0", "source": "/x", "type": "Job", "data": {"number": 1}}
    service.send("kafka", [json.dumps(job | {"id": id}).encode() for id in ("A", "B")])
    instance = service.start()
    service.wait_for({"A", "B"}, listeners=["first"])
    assert not service.done("second")  # which is new
    instance.emit(count=1, start=2, how="poison")  # and what had too few partitions has them now
    assert "attempts: 5" in service.wait_for_dead_letters(1)


@pytest.mark.parametrize(
    ("name", "fault"),
    [program.split(": ") for program in PROGRAMS if ": " in program],
    indirect=["name"],
    scope="session",
)
def test_a_fault_of_a_client(service: Service, name: str, fault: str) -> None:
    """No fault of a client or a server loses an event, or ends a listener in silence."""
    assert service.program(f"{name}: {fault}") == "well\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure")
def test_memory_is_flat(own: Broker, serve: Serve) -> None:
    """After the first events neither the service nor the broker's store grows further.

    It's the short version: benchmarks/broker_memory.py sends 100,000.
    """
    instance = serve(own.url).start()
    sizes = []
    for _ in range(4):
        assert instance.post("/tick?count=1000") == (200, 0)
        time.sleep(3)  # the broker's turn to trim
        sizes.append((instance.memory(), own.memory()))
    assert sizes[-1][0] - sizes[0][0] < 10, sizes
    if own.name in ("postgres", "nats", "redis"):  # Java and Erlang collect when they like
        assert sizes[-1][1] - sizes[0][1] < 10, sizes


def test_the_projects_own_tests_with_the_broker(name: str, shared: str, bake: Bake) -> None:
    """As the project's CI runs them; the slug is new, so they find nothing of an earlier run."""
    project = bake(project_slug=f"t{uuid4().hex[:8]}", broker=name, lesson="none")
    done = project.test("-rA", TEST_BROKER_URL=shared)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " skipped" not in done.stdout
