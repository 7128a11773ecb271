"""What the environment says about messaging: BROKER_URL, and how events are delivered."""

# % if cookiecutter.broker == "postgres"
import re
from urllib.parse import parse_qsl, urlsplit

# % else
from urllib.parse import urlsplit

# % endif

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVICE = "{{ cookiecutter.project_slug }}"  # begins the name of all that's ours at the broker
# % if cookiecutter.broker == "rabbitmq"
EXAMPLE_URL = "amqp://localhost:5672"


# % elif cookiecutter.broker == "redis"
EXAMPLE_URL = "redis://localhost:6379"


# % elif cookiecutter.broker == "kafka"
EXAMPLE_URL = "kafka://localhost:9092"


# % elif cookiecutter.broker == "postgres"
EXAMPLE_URL = "postgresql://postgres@localhost:5432"
HOSTS = r"((\[[^\[\]]*\]|[^\[\]:,@]*)(:\d*)?(,|$))*"  # several, with a comma between


# % else
EXAMPLE_URL = "nats://localhost:4222"


# % endif
class BrokerUnavailable(Exception):
    """The service can't start with this broker. The message says what to do."""


class Settings(BaseSettings):
    """Each field is a variable: BROKER_URL, BROKER_MAX_ATTEMPTS and so on. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="BROKER_")

    url: str = ""  # unset: events stay in this process
    max_attempts: int = Field(5, ge=1)  # after them, an event is a dead letter
    backoff: float = Field(1.0, gt=0)  # before the second attempt; doubles with each attempt
    lease: float = Field(30.0, gt=0)  # after it, another instance takes over from a killed one
    concurrency: int = Field(1, ge=1)  # events that a listener has in hand; 1 keeps their order
    timeout: float = Field(5.0, gt=0)  # for the broker to store an event


# % if cookiecutter.broker == "postgres"
def address_of(url: str) -> str:
    """Return `url` without user and password; raise BrokerUnavailable if it's no URL of libpq's."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    known = parts.scheme in ("postgresql", "postgres") and re.fullmatch(HOSTS, hosts)
    if not known or "@" in parts.path + parts.fragment:
        example = "postgresql://USER:PASSWORD@localhost:5432/DATABASE"
        rule = "Write %2F for / and %40 for @ in the password."
        raise BrokerUnavailable(f"BROKER_URL must look like {EXAMPLE_URL} or {example}. {rule}")
    socket = dict(parse_qsl(parts.query)).get("host", "")
    return f"postgresql://{socket or hosts or 'localhost'}"


# % else
def address_of(url: str) -> str:
    """Return `url` without user and password; raise BrokerUnavailable if it's not like EXAMPLE_URL."""
    parts, example = urlsplit(url), urlsplit(EXAMPLE_URL)
    try:
        port = parts.port or example.port
    except ValueError:
        port = None
    known = parts.scheme in (example.scheme, f"{example.scheme}s")
    if not (known and parts.hostname and port) or "@" in parts.path + parts.query + parts.fragment:
        login = EXAMPLE_URL.replace("//", "//USER:PASSWORD@")
        rule = "Write %2F for / and %40 for @ in the password."
        raise BrokerUnavailable(f"BROKER_URL must look like {EXAMPLE_URL} or {login}. {rule}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


# % endif
settings = Settings.model_construct()  # the defaults, until load()


def load() -> None:
    """Read the environment into `settings`; raise BrokerUnavailable if a value is wrong."""
    try:
        settings.__init__()  # type: ignore[misc]  # pydantic-settings' way to reload in place
    except ValidationError as error:
        wrong = error.errors()[0]
        name = f"BROKER_{wrong['loc'][0]}".upper()
        raise BrokerUnavailable(f"{name}: {wrong['msg']} (got {wrong['input']!r}).") from None
