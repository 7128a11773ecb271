"""A correction to aiokafka 0.14, of 2026-11: github.com/aio-libs/aiokafka/issues/1038.

uvloop raises RuntimeError where a connection is closed; it ends aiokafka's tasks in silence. Remove
this file when aiokafka handles it (test_a_connection_to_kafka_that_uvloop_has_closed).
"""

from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason  # type: ignore[import-untyped]
from aiokafka.errors import KafkaConnectionError  # type: ignore[import-untyped]


def _corrected(send: Callable[..., Any]) -> Callable[..., Any]:
    def sent(connection: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
        try:
            return send(connection, *arguments, **options)
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(str(error)) from error

    return sent


for _name in ("send", "_send_sasl_token"):
    setattr(AIOKafkaConnection, _name, _corrected(getattr(AIOKafkaConnection, _name)))
