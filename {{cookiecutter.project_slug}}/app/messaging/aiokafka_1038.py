"""A fix for aiokafka 0.14 (2026-11): github.com/aio-libs/aiokafka/issues/1038.

On a closed connection, uvloop raises RuntimeError, which silently ends aiokafka's tasks. Remove
this file when aiokafka handles it (test_a_fault_of_a_client).
"""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason  # type: ignore[import-untyped]
from aiokafka.errors import KafkaConnectionError  # type: ignore[import-untyped]

_send = AIOKafkaConnection.send


def _corrected(connection: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
    try:
        return _send(connection, *arguments, **options)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(str(error)) from error


AIOKafkaConnection.send = _corrected
