"""A broker's server for the tests that leave it alone, one for those that kill it, and services."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from support.brokers import SERVERS, Broker, StartBroker, running
from support.projects import Bake
from support.services import Serve, Service


@pytest.fixture(scope="session", params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a broker."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server for all tests that leave it alone."""
    with running(name, tmp_path_factory.mktemp(name)) as server:
        yield server.url


@pytest.fixture
def own(name: str, broker: StartBroker) -> Broker:
    """A server that a test may kill."""
    return broker(name)


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
def service(serve: Serve, shared: str) -> Service:
    return serve(shared)
