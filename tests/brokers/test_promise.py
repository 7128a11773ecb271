"""The promise that every broker keeps, against its real server; each count is a count of ids."""

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import pytest

from support.brokers import SERVERS, Broker, Given, resident, running
from support.processes import Server, free_port, run, succeed, until
from support.projects import Project

pytestmark = pytest.mark.brokers

HERE = Path(__file__).parent
LISTENERS = ("first", "second")

Bake = Callable[..., Project]
StartBroker = Callable[..., Broker]


@pytest.fixture(scope="module", params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a broker."""
    return str(request.param)


@pytest.fixture(scope="module")
def shared(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker | Given]:
    """A server for all tests that leave it alone: BROKER_URL's, if it is of this broker."""
    given = Given(os.environ.get("BROKER_URL", ""))
    if given.scheme.rstrip("s") == SERVERS[name].scheme.rstrip("s"):
        yield given
    else:
        with running(name, tmp_path_factory.mktemp(name)) as server:
            yield server


@pytest.fixture
def own(name: str, broker: StartBroker) -> Broker:
    """A server that a test may kill."""
    return broker(name)


class Service:
    """The generated service with a broker: its instances, and what its listeners did."""

    def __init__(self, project: Project, url: str) -> None:
        self.name = project.path.name
        self.folder = project.path
        self.python = project.python
        self.url = url
        self.log = self.folder / "jobs.log"
        self.instances: list[Instance] = []
        self.read = 0  # bytes of the log
        self.noted: list[tuple[str, int, int, str, str]] = []
        self.has_done: dict[str, set[str]] = defaultdict(set)
        shutil.copy(HERE / "jobs.py", self.folder / "app" / "handlers")

    @property
    def environment(self) -> dict[str, str]:
        fast = {"BROKER_BACKOFF": "0.1", "BROKER_LEASE": "3"}
        return {"BROKER_URL": self.url, "JOBS_LOG": str(self.log), **fast}

    def new(self, **environment: str) -> "Instance":
        """Start an instance; return at once."""
        command = (self.python, "-m", "uvicorn", "app.main:app")
        instance = Instance(*command, cwd=self.folder, **(self.environment | environment))
        self.instances.append(instance)
        return instance.start()

    def start(self, **environment: str) -> "Instance":
        """Start an instance, and wait until it is well."""
        instance = self.new(**environment)
        instance.until(lambda: instance.health() == 200)
        return instance

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        module = ("-m", "app.messaging")
        return run(self.python, *module, *arguments, cwd=self.folder, **self.environment)

    def notes(self) -> list[tuple[str, int, int, str, str]]:
        """Return listener, process, number, id and what it did, in order."""
        if self.log.exists():
            with self.log.open("rb") as log:
                log.seek(self.read)
                new = log.read()
            new = new[: new.rfind(b"\n") + 1]
            self.read += len(new)
            for who, by, number, id, what in map(str.split, new.decode().splitlines()):
                self.noted.append((who, int(by), int(number), id, what))
                if what == "done":
                    self.has_done[who].add(id)
        return self.noted

    def done(self, listener: str) -> set[str]:
        self.notes()
        return set(self.has_done[listener])

    def begun(self) -> list[tuple[int, str]]:
        """Return number and id of each event that the first listener began, in order."""
        return [(number, id) for _, _, number, id, what in self.notes() if what == "begins"]

    def wait_for(self, ids: set[str], seconds: float = 60, listeners: Any = LISTENERS) -> None:
        """Wait until each listener has handled each of `ids`."""

        def missing() -> dict[str, int]:
            self.notes()
            return {each: count for each in listeners if (count := len(ids - self.has_done[each]))}

        until(lambda: not missing(), seconds, lambda: f"of {len(ids)}: {missing()}\n{self}")

    def wait_for_dead_letters(self, count: int, seconds: float = 60) -> str:
        """Wait until there are `count` dead letters; return what the command lists."""
        listed = ""

        def all_there() -> bool:
            nonlocal listed
            listed = self.command("dead-letters").stdout
            return f"Dead letters: {count}\n" in listed

        until(all_there, seconds, lambda: f"{listed}\n{self}")
        return listed

    def __str__(self) -> str:
        return "\n".join(map(str, self.instances))


class Instance(Server):
    """One process of the service."""

    def health(self) -> int:
        try:
            return self.request("GET", "/health")[0]
        except OSError:
            return 0

    def well(self, seconds: float = 30) -> None:
        """Wait until its broker is there."""
        self.until(lambda: self.health() == 200, seconds)

    def emit(self, **parameters: Any) -> int:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        status, refused = self.post(f"/emit?{query}")
        assert status == 200, refused
        return int(refused)

    def end(self) -> None:
        """End it as an operator does; fail if it does not end well."""
        assert self.stop(signal.SIGTERM) in (0, -signal.SIGTERM), self
        assert "Cleanup done" in self.printed(), self
        assert "Traceback" not in str(self), self


Serve = Callable[[str], Service]


@pytest.fixture
def serve(name: str, bake: Bake) -> Iterator[Serve]:
    """Makes a service on a broker's URL, with a name that no other has."""
    made: list[Service] = []

    def make(url: str) -> Service:
        slug = f"t{uuid4().hex[:8]}"
        made.append(Service(bake(project_slug=slug, broker=name, lesson="none"), url))
        return made[-1]

    yield make
    for service in made:
        for instance in service.instances:
            instance.close()


@pytest.fixture
def service(serve: Serve, shared: Broker | Given) -> Service:
    return serve(shared.url)


def test_kill_9_in_the_middle_of_10000_events(service: Service) -> None:
    keeper = service.start()
    with ThreadPoolExecutor(1) as pool:
        emitting = pool.submit(keeper.emit, count=10_000, width=20)
        for _ in range(3):
            victim = service.start()
            before = len(service.notes())
            while not emitting.done():
                new = service.notes()[before:]
                if len(new) > 200 and victim.pid in {pid for _, pid, *_ in new}:
                    break
                time.sleep(0.05)
            victim.kill()
        assert emitting.result() == 0
    accepted = service.done("accepted")
    assert len(accepted) == 10_000
    service.wait_for(accepted, 120)
    killed = {each.pid for each in service.instances[1:]}
    assert {pid for who, pid, *_ in service.notes() if who == "first"} & killed  # they did work
    assert "Dead letters: 0\n" in service.command("dead-letters").stdout


def test_what_a_killed_instance_had_in_hand_comes_again_with_its_id(service: Service) -> None:
    victim = service.start()
    victim.emit(count=1, how="slow")
    until(service.begun)
    victim.kill()
    [id] = service.done("accepted")
    assert id not in service.done("first")

    service.start()

    service.wait_for({id}, 30)
    assert service.begun() == [(0, id), (0, id)]


def test_sigterm_under_load(service: Service) -> None:
    keeper = service.start()
    with ThreadPoolExecutor(1) as pool:
        emitting = pool.submit(keeper.emit, count=3_000, width=10)
        for _ in range(2):
            other = service.start()
            time.sleep(0.5)
            other.end()
        emitting.result()
    service.wait_for(service.done("accepted"))
    begun = Counter((pid, id) for who, pid, _, id, what in service.notes() if what == "begins")
    done = Counter(
        (pid, id) for who, pid, _, id, what in service.notes() if (who, what) == ("first", "done")
    )
    assert begun == done  # nobody was stopped in the middle


def test_sigterm_finishes_what_is_in_hand_and_takes_nothing_new(service: Service) -> None:
    instance = service.start()
    instance.emit(count=5, how="slow")
    until(service.begun)

    instance.end()

    first = [what for who, *_, what in service.notes() if who == "first"]
    assert first == ["begins", "done"]
    service.start()
    service.wait_for(service.done("accepted"), 30)


def test_a_listener_may_take_longer_than_the_lease(service: Service) -> None:
    service.start()
    other = service.start()
    other.emit(count=1, how="endless")
    service.wait_for(service.done("accepted"), 30)
    assert [what for who, *_, what in service.notes() if who == "first"] == ["begins", "done"]


def test_an_instance_stalls_for_longer_than_the_lease_under_load(service: Service) -> None:
    keeper, victim = service.start(), service.start()
    with ThreadPoolExecutor(1) as pool:
        emitting = pool.submit(keeper.emit, count=3_000, width=10)
        until(lambda: victim.pid in {pid for _, pid, *_ in service.notes()})
        victim.send(signal.SIGSTOP)
        time.sleep(5)
        victim.send(signal.SIGCONT)
        assert emitting.result() == 0
    service.wait_for(service.done("accepted"))
    victim.emit(count=100, start=3_000)
    service.wait_for(service.done("accepted"), 30)
    assert "Dead letters: 0\n" in service.command("dead-letters").stdout


def test_an_instance_comes_while_a_listener_takes_longer_than_the_lease(service: Service) -> None:
    one = service.start()
    one.emit(count=1, how="endless")
    until(service.begun)
    service.start().emit(count=50, start=1)
    service.wait_for(service.done("accepted"), 40)
    one.end()
    begun = [id for number, id in service.begun() if number == 0]
    assert len(begun) <= 2  # where instances share anew, it may come to the new one as well
    assert len(set(begun)) == 1


def test_a_new_listener_hears_what_comes_after_its_first_start(service: Service) -> None:
    instance = service.start()
    instance.emit(count=20)
    before = service.done("accepted")
    service.wait_for(before)
    instance.end()
    code = [
        "from app.bus import on",
        "from app.handlers.jobs import Job, note",
        "@on(Job)",
        "async def third(event: Job) -> None:",
        "    note('third', event, 'done')",
    ]
    later = service.folder / "app" / "handlers" / "later.py"
    later.write_text("\n".join(code), encoding="utf-8")
    for _ in range(3):  # all at the same time
        service.new()
    for each in service.instances[1:]:
        each.well(60)
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
    time.sleep(0.5)
    assert instance.health() == 503
    status, _, headers = instance.request("POST", "/emit-one?number=2")
    assert (status, headers["Retry-After"].isdigit()) == (503, True)
    time.sleep(1)
    proxy.open()
    instance.well()
    assert instance.request("POST", "/emit-one?number=3")[0] == 200
    service.wait_for(service.done("accepted"))
    assert {number for who, _, number, *_ in service.notes()} >= {1, 3}
    instance.end()


def test_poison(service: Service) -> None:
    instance = service.start()
    instance.emit(count=3, how="poison")
    instance.emit(count=20, start=3)
    poison = {id for who, _, number, id, _ in service.notes() if number < 3}
    healthy = service.done("accepted") - poison
    service.wait_for(healthy, 10)  # it starves nothing
    service.wait_for(poison, 10, ["second"])  # the other listener is not concerned
    listed = service.wait_for_dead_letters(3)
    begun = Counter(id for _, id in service.begun() if id in poison)
    assert begun == dict.fromkeys(poison, 5)
    for id in poison:
        assert id in listed
    assert listed.count("Job.app.handlers.jobs.first") == 3
    assert listed.count("attempts: 5") == 3
    assert listed.count("ValueError: this never works") == 3


def test_waits_grow(service: Service) -> None:
    instance = service.start(BROKER_BACKOFF="0.5", BROKER_LEASE="10")
    instance.emit(count=1, how="poison")
    times: list[float] = []

    def five() -> bool:
        times.extend([time.monotonic()] * (len(service.begun()) - len(times)))
        return len(times) == 5

    instance.until(five)
    waits = [after - before for before, after in pairwise(times)]
    for wait, least in zip(waits, (0.5, 1, 2, 4), strict=True):
        assert least - 0.2 < wait < least + 2.5, waits


def test_replay_reaches_only_the_listener_that_failed(service: Service) -> None:
    instance = service.start()
    instance.emit(count=2, how="mend")
    ids = sorted(service.done("accepted"))
    service.wait_for_dead_letters(2)
    Path(f"{service.log}.mended").touch()

    assert "Nothing was replayed" in service.command("replay", "no-such-id").stderr
    assert service.command("replay", ids[0]).stdout == "Replayed: 1\n"
    service.wait_for({ids[0]}, 20)
    assert ids[1] not in service.done("first")
    assert "Dead letters: 1\n" in service.command("dead-letters").stdout
    assert service.command("replay").stdout == "Replayed: 1\n"
    service.wait_for(set(ids), 20)

    assert "Dead letters: 0\n" in service.command("dead-letters").stdout
    assert sum(who == "second" for who, *_ in service.notes()) == 2


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

    until(given_up, 90, lambda: f"{listed}\n{service}")
    assert "the process ended" in listed
    survivor = service.start()
    survivor.emit(count=5, start=1)
    healthy = {id for who, _, number, id, _ in service.notes() if number > 0}
    service.wait_for(healthy, 30)


def test_two_instances_share(service: Service) -> None:
    one, two = service.start(), service.start()
    one.emit(count=2_000, width=10)
    accepted = service.done("accepted")
    service.wait_for(accepted)
    for listener in LISTENERS:
        handled = [
            (pid, id)
            for who, pid, _, id, what in service.notes()
            if (who, what) == (listener, "done")
        ]
        assert len(handled) == len(accepted)  # once each, as nothing failed
        share = Counter(pid for pid, _ in handled)
        assert set(share) == {one.pid, two.pid}
        assert min(share.values()) > 200, share


def test_order(service: Service, name: str) -> None:
    things = 10
    one = service.start()
    take_steps(one, 0, things)
    service.wait_for(service.done("accepted"), listeners=["step"])
    if name == "kafka":  # one instance: for each key the order in which it was stored
        for thing in range(things):
            assert steps(service, thing, things) == list(range(thing, 300, things))
    else:  # one instance: the order in which all was stored
        assert steps(service) == list(range(300))

    two = service.start()
    take_steps(one, 300, things)
    service.wait_for(service.done("accepted"), listeners=["step"])
    if name == "kafka":  # several: the same
        for thing in range(things):
            assert steps(service, thing, things) == list(range(thing, 600, things))
    else:  # several: each takes in that order, and they overtake each other
        for instance in (one, two):
            taken = steps(service, pid=instance.pid)
            assert taken == sorted(taken)


def take_steps(instance: Instance, start: int, things: int) -> None:
    query = f"count=300&start={start}&things={things}"
    assert instance.request("POST", f"/steps?{query}")[0] == 200


def steps(service: Service, thing: int = 0, things: int = 1, pid: int = 0) -> list[int]:
    """Return the numbers of the steps that were taken, all or with one thing, in order."""
    return [
        number
        for who, by, number, *_ in service.notes()
        if who == "step" and number % things == thing and pid in (0, by)
    ]


@pytest.mark.parametrize("name", ["kafka"], indirect=True, scope="module")
def test_a_listener_that_the_broker_forgot_misses_nothing(service: Service) -> None:
    """Kafka forgets how far a group was a week after it was stopped; its topic is still there."""
    code = """
import asyncio, sys
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
async def main(url, name):
    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    again = f"{name}.Job.app.handlers.jobs.first.retry"
    await admin.create_topics([NewTopic(f"{name}.Job", 12, 1), NewTopic(again, 2, 1)])
    await admin.close()
asyncio.run(main(*sys.argv[1:]))
"""
    subprocess.run([service.python, "-c", code, service.url, service.name], check=True)
    job = {"specversion": "1.0", "source": "/x", "type": "Job", "data": {"number": 1}}
    lines = [json.dumps(job | {"id": id}).encode() for id in ("A", "B")]
    other(service, "kafka", "send").communicate(b"\n".join(lines), timeout=20)
    instance = service.start()
    service.wait_for({"A", "B"}, 20, ["first"])
    assert not service.done("second")  # which is new
    instance.emit(count=1, start=2, how="poison")  # and what had too few partitions has them now
    assert "attempts: 5" in service.wait_for_dead_letters(1)


@pytest.mark.parametrize("name", ["kafka"], indirect=True, scope="module")
def test_a_connection_to_kafka_that_uvloop_has_closed(service: Service) -> None:
    """aiokafka's tasks live through its own error only; another one would end a line in silence."""
    code = """
import asyncio, sys
import uvloop
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ListGroupsRequest
import app.messaging.broker
async def main(host, port):
    connection = await create_conn(host, int(port))
    await connection.send(ListGroupsRequest())
    connection._writer.transport.abort()
    await asyncio.sleep(0)  # uvloop closes it
    try:
        connection.send(ListGroupsRequest())
    except KafkaConnectionError:
        print("as aiokafka says it;", "connected:", connection.connected())
uvloop.run(main(*sys.argv[1:]))
"""
    at = service.url.removeprefix("kafka://").split(":")
    said = succeed(service.python, "-c", code, *at, cwd=service.folder)
    assert said == "as aiokafka says it; connected: False\n"


@pytest.mark.parametrize("name", ["redis"], indirect=True, scope="module")
def test_a_connection_to_redis_that_uvloop_has_closed(service: Service) -> None:
    code = """
import asyncio, sys
import uvloop
from app.messaging import connected, delivery
async def main():
    async with connected(subscribe=False):
        await delivery.broker.publish("Job", "A", b"x", "")
        [connection] = delivery.broker.redis.connection_pool._available_connections
        connection._writer.transport.abort()
        try:
            await delivery.broker.publish("Job", "B", b"x", "")
        except delivery.EventNotStored:
            print("not stored;", await delivery.broker.ping())
uvloop.run(main())
"""
    said = succeed(service.python, "-c", code, cwd=service.folder, **service.environment)
    assert said == "not stored; None\n"


def other(service: Service, name: str, what: str, **options: Any) -> subprocess.Popen[bytes]:
    program = str(HERE / f"other_{name}.py")
    command = [str(service.python), program, service.url, service.name, what]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_other_program(service: Service, name: str) -> None:
    instance = service.start()
    reader = other(service, name, "read")
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"ready\n"
    instance.emit(count=1, start=7)
    document = json.loads(reader.communicate(timeout=40)[0])
    assert set(document) == {
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "datacontenttype",
        "data",
    }
    assert document["type"] == "Job"
    assert document["data"] == {"number": 7, "how": "ok"}
    assert document["id"] in service.done("accepted")

    theirs = {
        "specversion": "1.0",
        "id": "A/1",
        "source": "https://example.org/other",
        "type": "Job",
        "data": {"number": 8},
        "traceparent": "00-1-2-00",
    }
    other(service, name, "send").communicate(json.dumps(theirs).encode(), timeout=20)
    service.wait_for({"A/1"}, 20)


def test_each_event_is_as_the_specification_has_it(service: Service, tmp_path: Path) -> None:
    code = """
from uuid import uuid4
from app.main import app
from app.messaging.cloudevents import encode
from app.messaging.delivery import event_types
from app.events import OrderPlaced
from app.handlers.jobs import Job, LargeJob, Step, Tick

order = OrderPlaced(order_id=uuid4(), item="tea \\N{hot beverage}", quantity=2)
events = [order, Job(number=1), LargeJob(number=1), Step(thing=1, number=2), Tick()]
assert {type(event) for event in events} == set(event_types())
for event in events:
    print(encode(event).decode())
"""
    (service.folder / "encode.py").write_text(code, encoding="utf-8")
    environment = service.environment | {"PYTHONUTF8": "1"}
    printed = succeed(service.python, "encode.py", cwd=service.folder, **environment)
    documents = [json.loads(line) for line in printed.splitlines()]
    assert len(documents) == 5
    schema = cloudevents_schema(tmp_path)
    checker = jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker())
    for document in documents:
        checker.validate(document)
        for wrong in ({"id": ""}, {"source": 1}, {"time": "today"}, {"type": None}):
            assert not checker.is_valid(document | wrong)  # the schema can tell


def cloudevents_schema(folder: Path) -> Any:
    """Return the specification's own JSON schema, which is in CloudEvents' package for npm."""
    code = unpacked("cloudevents@10.0.0", "package/dist/schema/v1.js", folder)
    [schema] = re.findall(r'^const \w+ = (\{ "\$schema".*\});$', code, re.MULTILINE)
    return json.loads(schema)


def unpacked(package: str, name: str, folder: Path) -> str:
    """Return the text of a file of a package for npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which brings the specification's own schema, is not installed")
    succeed(npm, "pack", "--silent", package, cwd=folder)
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        member = packed.extractfile(name)
        assert member is not None
        return member.read().decode()


def test_garbage(service: Service, name: str) -> None:
    instance = service.start()
    event = {"specversion": "1.0", "id": "A", "source": "/x", "type": "Job", "data": {"number": 8}}
    lines = [
        b"\xff\xfe\x00garbage",
        b"{}",
        b"[]",
        json.dumps(event | {"data": {"number": "many"}, "id": "many"}).encode(),
        json.dumps(event | {"specversion": "2.0", "id": "later"}).encode(),
        json.dumps(event | {"type": "Jab", "id": "jab"}).encode(),
    ]
    other(service, name, "send").communicate(b"\n".join(lines), timeout=20)
    listed = service.wait_for_dead_letters(12)
    for reason in (
        "data.number: Input should be a valid integer",
        "specversion: Input should be '1.0'",
        "type: Input should be 'Job'",
        "Invalid JSON",
    ):
        assert listed.count(reason) >= 2, listed
    instance.emit(count=3)
    service.wait_for(service.done("accepted"), 10)  # it lives
    assert service.command("replay", "many").stdout == "Replayed: 2\n"
    service.wait_for_dead_letters(12)


def test_away_at_the_start(service: Service, name: str) -> None:
    port = free_port()
    scheme = SERVERS[name].scheme
    service.url = f"{scheme}://me:s3cret@127.0.0.1:{port}"
    instance = service.new()
    assert instance.wait() != 0
    printed = instance.output() + instance.output("stderr")
    said = [line for line in printed.splitlines() if line.strip()]
    assert f"{scheme}://127.0.0.1:{port} " in said[-2]  # the last line is uvicorn's
    assert "s3cret" not in printed
    assert "During handling" not in printed  # it's one error, not two
    command = service.command("dead-letters")
    assert command.returncode != 0
    assert len(command.stderr.splitlines()) == 1, command.stderr
    assert "s3cret" not in command.stderr


def test_a_bad_url(service: Service) -> None:
    for url in (
        "localhost",
        "http://localhost:1",
        f"{service.url}:x",
        "nats://u:s3cret/2@localhost",
    ):
        service.url = url
        command = service.command("dead-letters")
        assert command.stderr.startswith("BROKER_URL must look like"), command.stderr
        assert "s3cret" not in command.stderr


def test_a_wrong_password(
    service: Service, name: str, broker: Callable[[str, str], Broker]
) -> None:
    server = broker(name, "right")
    service.url = re.sub("//(.+@)?", "//me:s3cret@", server.url)
    command = service.command("dead-letters")
    assert command.returncode != 0
    assert "s3cret" not in command.stderr
    assert len(command.stderr.splitlines()) == 1, command.stderr
    assert f"127.0.0.1:{server.port}" in command.stderr


def test_asyncapi(service: Service, name: str) -> None:
    instance = service.start()
    document = json.loads(instance.request("GET", "/asyncapi.json")[1])
    sent = {o["channel"]["$ref"] for o in document["operations"].values() if o["action"] == "send"}
    heard = {
        o["channel"]["$ref"].removeprefix("#/channels/")
        for o in document["operations"].values()
        if o["action"] == "receive"
    }
    assert sent == {
        f"#/channels/{name}" for name in ("Job", "LargeJob", "OrderPlaced", "Step", "Tick")
    }
    assert heard == {
        "Job.app.handlers.jobs.first",
        "Job.app.handlers.jobs.second",
        "LargeJob.app.handlers.jobs.first",
        "LargeJob.app.handlers.jobs.second",
        "OrderPlaced.app.handlers.orders.send_receipt",
        "Step.app.handlers.jobs.step",
        "Tick.app.handlers.jobs.count_tick",
    }
    status, page, headers = instance.request("GET", "/asyncapi")
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert b"OrderPlaced" in page


def test_asyncapi_is_valid(service: Service, tmp_path: Path) -> None:
    packed = unpacked("@asyncapi/specs@6.11.1", "package/schemas/3.0.0.json", tmp_path)
    schema = json.loads(packed)
    document = json.loads(service.start().request("GET", "/asyncapi.json")[1])
    validator = jsonschema.Draft7Validator(schema)
    validator.validate(document)
    document["operations"]["Job"]["action"] = "shout"
    assert not validator.is_valid(document)  # the schema can tell


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure")
def test_memory_is_flat(own: Broker, serve: Serve) -> None:
    """After a fifth of the events neither the service nor the broker's store grows further.

    benchmarks/broker_memory.py sends many more.
    """
    instance = serve(own.url).start()
    sizes = []
    for _ in range(5):
        status, left = instance.post("/tick?count=1000")
        assert (status, left) == (200, 0)
        time.sleep(3)  # the broker's turn to trim
        sizes.append((resident(instance.pid), own.memory()))
    assert sizes[-1][0] - sizes[0][0] < 10, sizes
    if own.name not in "kafka":  # Java collects when it likes
        assert sizes[-1][1] - sizes[0][1] < 10, sizes


def test_the_projects_own_tests_with_the_broker(
    name: str, shared: Broker | Given, bake: Bake
) -> None:
    """As the project's CI runs them; the slug is new, so they find nothing of an earlier run."""
    project = bake(project_slug=f"t{uuid4().hex[:8]}", broker=name, lesson="none")
    done = project.test("-rA", BROKER_URL=shared.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " skipped" not in done.stdout
