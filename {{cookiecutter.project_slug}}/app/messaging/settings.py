"""Settings from the environment: BROKER_URL, and how events are delivered."""

import re

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVICE = "{{ cookiecutter.project_slug }}"  # all our names at the broker start with it
# % if cookiecutter.broker == "rabbitmq"
EXAMPLE_URL = "amqp://localhost:5672"


# % elif cookiecutter.broker == "redis"
EXAMPLE_URL = "redis://localhost:6379"


# % elif cookiecutter.broker == "kafka"
EXAMPLE_URL = "kafka://localhost:9092"


# % elif cookiecutter.broker == "postgres"
EXAMPLE_URL = "postgresql://localhost:5432"


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
    timeout: float = Field(5.0, gt=0)  # how long the broker may take to store an event


settings = Settings.model_construct()  # the defaults, until connected() reads the environment


def address_of(url: str) -> str:
    """Return `url` without user and password; raise BrokerUnavailable if it's malformed."""
    one = r"(\[[\da-fA-F:.]+\]|[^][\s:/?@,]+)(:\d+)?"
    # % if cookiecutter.broker == "postgres"
    form = rf"(postgres(?:ql)?://)([^/@?#]*@)?({one}(,{one})*)?([/?][^@]*)?"
    if found := re.fullmatch(form, url):
        socket = re.search("[?&]host=([^&]*)", url)
        return found[1] + (socket[1] if socket else found[3] or "localhost")
    # % else
    scheme = EXAMPLE_URL.partition(":")[0]
    if found := re.fullmatch(rf"({scheme}s?://)([^/@?#]*@)?({one}(,{one})*)([/?][^@]*)?", url):
        return found[1] + found[3]
    # % endif
    login = EXAMPLE_URL.replace("//", "//USER:PASSWORD@") + ", with %2F for / and %40 for @"
    raise BrokerUnavailable(f"BROKER_URL must look like {EXAMPLE_URL} or {login} in the password.")
