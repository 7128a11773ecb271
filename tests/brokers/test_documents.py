"""What goes over the wire: CloudEvents, AsyncAPI, what's no event, and where the broker is."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import jsonschema
import pytest

from support.brokers import SERVERS, StartBroker
from support.cases import cases
from support.processes import Process, free_port, succeed
from support.services import Serve, Service

pytestmark = pytest.mark.brokers

FAULTS = cases(__file__, "faults")
FIELDS = {"specversion", "id", "source", "type", "time", "datacontenttype", "data"}


def test_another_program_reads_and_sends(service: Service, name: str) -> None:
    instance = service.start()
    reader = Process(*service.other(name, "read"), cwd=service.folder).start()
    reader.until(lambda: "ready" in reader.output())
    instance.emit(count=1, start=7)
    assert reader.wait() == 0
    document = json.loads(reader.output().partition("ready\n")[2])
    reader.close()
    assert set(document) == FIELDS
    assert document["type"] == "Job"
    assert document["data"] == {"number": 7, "how": "ok", "thing": 7}
    assert document["id"] in service.done("accepted")

    service.send(name, [FAULTS["theirs"].encode()])
    service.wait_for({"A/1"})


def test_what_is_no_event_is_a_dead_letter(service: Service, name: str) -> None:
    instance = service.start()
    documents = FAULTS["documents"].values()
    service.send(name, [text.encode("latin-1") for text, _ in documents])
    count = 2 * len(documents)  # each listener has its own
    listed = service.wait_for_dead_letters(count)
    for _, reason in documents:
        assert listed.count(reason) >= 2, listed
    instance.emit(count=3)
    service.wait_for(service.done("accepted"))  # it lives
    assert service.command("replay", "many").stdout == "Replayed: 2\n"
    service.wait_for_dead_letters(count)


@pytest.mark.parametrize("why", ["away", "a wrong password"])
def test_no_broker_takes_it(why: str, serve: Serve, name: str, broker: StartBroker) -> None:
    address = f"127.0.0.1:{free_port() if why == 'away' else broker(name, 'right').port}"
    service = serve(f"{SERVERS[name].scheme}://me:s3cret@{address}")
    instance = service.new()
    assert instance.wait() != 0
    printed = instance.output() + instance.output("stderr")
    *_, ours, uvicorns = printed.splitlines()
    assert address in ours
    assert uvicorns.endswith("Application startup failed. Exiting.")
    assert "Traceback" not in printed
    command = service.command("dead-letters")
    assert command.returncode != 0
    [line] = command.stderr.splitlines()
    assert address in line
    assert "s3cret" not in printed + line


@pytest.mark.parametrize("name", ["nats"], indirect=True, scope="session")
def test_each_event_is_as_cloudevents_has_it(service: Service, tmp_path: Path) -> None:
    printed = service.program("each event")
    documents = [json.loads(line) for line in printed.splitlines()]
    assert len(documents) == 3
    code = unpacked("cloudevents@10.0.0", "package/dist/schema/v1.js", tmp_path)
    [schema] = re.findall(r'^const \w+ = (\{ "\$schema".*\});$', code, re.MULTILINE)
    form = jsonschema.FormatChecker()
    checker = jsonschema.Draft7Validator(json.loads(schema), format_checker=form)
    for document in documents:
        checker.validate(document)
        for wrong in ({"id": ""}, {"source": 1}, {"time": "today"}, {"type": None}):
            assert not checker.is_valid(document | wrong)  # the schema can tell


def test_asyncapi(service: Service, name: str, tmp_path: Path) -> None:
    document = service.start().get("/asyncapi.json")
    schema = json.loads(unpacked("@asyncapi/specs@6.11.1", "package/schemas/3.0.0.json", tmp_path))
    validator = jsonschema.Draft7Validator(schema)
    validator.validate(document)
    own = {"postgres": "Job", "rabbitmq": "Job", "redis": f"{service.name}:Job"}
    assert document["channels"]["Job"]["address"] == own.get(name, f"{service.name}.Job")
    for each in map(document["operations"].get, ("Job", "Job.app.handlers.jobs.first")):
        assert each["channel"] == {"$ref": "#/channels/Job"}
    document["operations"]["Job"]["action"] = "shout"
    assert not validator.is_valid(document)  # the schema can tell


def unpacked(package: str, name: str, folder: Path) -> str:
    """Return the text of a file, a specification's own schema, in a package for npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which brings the specification's own schema, is not installed")
    succeed(npm, "pack", "--silent", package, cwd=folder)
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        packed.extractall(folder, filter="data")
    return (folder / name).read_text(encoding="utf-8")
