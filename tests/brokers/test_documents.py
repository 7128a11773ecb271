"""What goes over the wire: CloudEvents, AsyncAPI, what's no event, and where the broker is."""

import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("name", ["nats"], indirect=True, scope="session")
def test_each_event_is_as_the_specification_has_it(service: Service, tmp_path: Path) -> None:
    printed = service.program("each event")
    documents = [json.loads(line) for line in printed.splitlines()]
    assert len(documents) == 4
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


def test_away_at_the_start(serve: Serve, name: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    service = serve(f"{SERVERS[name].scheme}://me:s3cret@{address}")
    instance = service.new()
    assert instance.wait() != 0
    printed = instance.output() + instance.output("stderr")
    *_, ours, uvicorns = printed.splitlines()
    assert f"{SERVERS[name].scheme}://{address} " in ours
    assert uvicorns.endswith("Application startup failed. Exiting.")
    assert "Traceback" not in printed
    assert "s3cret" not in printed
    is_refused_in_a_line(service, address)


def test_a_wrong_password(serve: Serve, name: str, broker: StartBroker) -> None:
    server = broker(name, "right")
    address = f"127.0.0.1:{server.port}"
    is_refused_in_a_line(serve(f"{server.scheme}://me:s3cret@{address}"), address)


def is_refused_in_a_line(service: Service, address: str) -> None:
    command = service.command("dead-letters")
    assert command.returncode != 0
    [line] = command.stderr.splitlines()
    assert address in line
    assert "s3cret" not in line


def test_asyncapi(service: Service, tmp_path: Path) -> None:
    instance = service.start()
    document = instance.get("/asyncapi.json")
    channels: dict[str, set[str]] = {"send": set(), "receive": set()}
    for operation in document["operations"].values():
        channel = operation["channel"]["$ref"].removeprefix("#/channels/")
        channels[operation["action"]].add(channel)
    assert channels["send"] == {"Job", "LargeJob", "OrderPlaced", "Tick"}
    listeners = {channel.split("app.handlers.", 1)[1] for channel in channels["receive"]}
    jobs = {f"jobs.{listener}" for listener in ("first", "second", "count_tick")}
    assert listeners == {"orders.send_receipt"} | jobs
    status, page, headers = instance.request("GET", "/asyncapi")
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert b"OrderPlaced" in page

    schema = json.loads(unpacked("@asyncapi/specs@6.11.1", "package/schemas/3.0.0.json", tmp_path))
    validator = jsonschema.Draft7Validator(schema)
    validator.validate(document)
    document["operations"]["Job"]["action"] = "shout"
    assert not validator.is_valid(document)  # the schema can tell
