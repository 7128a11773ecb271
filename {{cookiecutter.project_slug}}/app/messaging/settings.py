"""Settings from the environment: BROKER_URL, and how events are delivered."""

import re

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVICE = "{{ cookiecutter.project_slug }}"  # prefix of every name on the broker
# % if cookiecutter.broker == "rabbitmq"
EXAMPLE_URL = "amqp://localhost:5672"
CHANNEL = "", f"A routing key of the exchange {SERVICE}."


# % elif cookiecutter.broker == "redis"
EXAMPLE_URL = "redis://localhost:6379"
CHANNEL = f"{SERVICE}:", "A stream, whose field `event` has the document."


# % elif cookiecutter.broker == "kafka"
EXAMPLE_URL = "kafka://localhost:9092"
CHANNEL = f"{SERVICE}.", "A topic."


# % elif cookiecutter.broker == "postgres"
EXAMPLE_URL = "postgresql://postgres@localhost:5432/postgres"
CHANNEL = "", "A value of the column `type` in the table `subscriptions` (see queue.sql)."


# % else
EXAMPLE_URL = "nats://localhost:4222"
CHANNEL = f"{SERVICE}.", "A subject."


# % endif
class BrokerUnavailable(Exception):
    """The service can't start with this broker. The message says what to do."""


class Settings(BaseSettings):
    """Each field is a variable: BROKER_URL, BROKER_MAX_ATTEMPTS and so on. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="BROKER_", env_ignore_empty=True)

    url: str = ""  # unset: events stay in this process
    max_attempts: int = Field(5, ge=1, le=1000)  # after them, an event is a dead letter
    backoff: float = Field(1, gt=0, le=86400)  # before the second attempt; then it doubles
    lease: float = Field(30, gt=0, le=86400)  # after it, another instance takes over
    concurrency: int = Field(1, ge=1, le=1000)  # events that a listener has in hand; 1: in order
    timeout: float = Field(5, gt=0, le=86400)  # how long the broker may take to store an event
    shutdown_timeout: float = Field(20, gt=0, le=86400)  # how long SIGTERM waits for listeners


settings = Settings.model_construct()  # the defaults, until load()


def load() -> None:
    """Read the settings from the environment; raise BrokerUnavailable for a bad value."""
    try:
        settings.__init__()  # type: ignore[misc]  # pydantic-settings' way to reload
    except ValidationError as error:
        [wrong, *_] = error.errors()
        raise BrokerUnavailable(f"BROKER_{str(wrong['loc'][0]).upper()}: {wrong['msg']}.") from None


def address_of(url: str) -> str:
    """Return `url` without user and password; raise BrokerUnavailable if it's malformed."""
    port = r"([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"
    one = rf"(\[[\da-fA-F:.]+\]|[^][\s:/?@,.]+(?:\.[^][\s:/?@,.]+)*\.?)(:{port})?"
    # % if cookiecutter.broker == "postgres"
    form = rf"(postgres(?:ql)?://)([^/@?#]*@)?({one}(,{one})*)?([/?](?!.*port=(?!{port}\b))[^@]*)?"
    if found := re.fullmatch(form, url):
        socket = re.search("[?&]host=([^&]*)", url)
        return found[1] + (socket[1] if socket else found[3] or "localhost")
    # % elif cookiecutter.broker == "nats"
    form = rf"((nats|tls)://)?([^/@?#]*@)?({one})([/?][^@]*)?"
    found = [re.fullmatch(form, each) for each in url.split(",")]  # the servers of a cluster
    if url.startswith(("nats://", "tls://")) and all(found):
        return ",".join(f"{url.partition('//')[0]}//{each[4]}" for each in found if each)
    # % elif cookiecutter.broker == "rabbitmq"
    if found := re.fullmatch(rf"(amqps?://)([^][\\/@?#]*@)?({one})([/?][^@]*)?", url):
        return found[1] + found[3]
    # % else
    scheme = EXAMPLE_URL.partition(":")[0]
    if found := re.fullmatch(rf"({scheme}s?://)([^/@?#]*@)?({one}(,{one})*)([/?][^@]*)?", url):
        return found[1] + found[3]
    # % endif
    login = re.sub("//(.*@)?", "//USER:PASSWORD@", EXAMPLE_URL) + " (%2F for /, %40 for @)"
    raise BrokerUnavailable(f"BROKER_URL must look like {EXAMPLE_URL} or {login}, port <= 65535.")
