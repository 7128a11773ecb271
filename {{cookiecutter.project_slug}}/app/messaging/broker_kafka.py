"""The seam to Kafka: a group for each listener, which moves past an event only when it is done.

This file uses aiokafka itself. Kafka does not count deliveries, and FastStream's subscriber has no
place for a count, so an event that ends its process would end one after the other
(test_an_event_that_ends_the_process_is_given_up).

Places, with SERVICE for the name of this service:

- topic SERVICE.OrderPlaced: the events, handled or not, for KEEP; events with the same key lie in
  the same of its PARTITIONS, in order;
- group SERVICE.OrderPlaced.app.handlers.orders.send_receipt: how far that listener is. The
  note at its place in a partition says how often the event there may have been begun;
- topic SERVICE.OrderPlaced.app.handlers.orders.send_receipt.again: what that listener could not
  handle; what failed N times waits in partition N, so that short waits are not behind long ones;
- topic SERVICE.letters: the dead letters, until they are taken out.
"""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.admin import (  # type: ignore[import-untyped]
    AIOKafkaAdminClient,
    NewPartitions,
    NewTopic,
)
from aiokafka.conn import AIOKafkaConnection, CloseReason  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    CommitFailedError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    for_code,
)
from faststream.kafka import KafkaBroker

from app import delivery
from app.cloudevents import CONTENT_TYPE, SERVICE, document_of
from app.delivery import EngineUnusable, EventNotStored, Letter, Subscription

DEFAULT_URL = "kafka://localhost:9092"
PARTITIONS = 12  # of each topic of events: so many instances can share one listener's work
KEEP = 7 * 24 * 3600  # seconds
LARGEST = 8 * 2**20  # bytes: a letter tells of a document of 1 MB in up to six times as many
SASL = "PLAIN"  # how to log in; some hosts want SCRAM-SHA-256 or SCRAM-SHA-512
LETTERS = f"{SERVICE}.letters"
STORE_TIMEOUT = 5.0  # seconds
AWAY = (KafkaError, OSError, TimeoutError)
EXISTS = 36  # Kafka's code for a topic that another instance has just made

T = TypeVar("T")
log = logging.getLogger(__name__)


class Engine:
    """Keeps events in Kafka and hands them to the listeners of `subscriptions`."""

    def __init__(self, url: str, subscriptions: list[Subscription]) -> None:
        self.address = delivery.address_of(url, DEFAULT_URL)
        self.subscriptions = subscriptions
        self.access = _access(url, self.address)
        self.lines: list[_Line] = []
        self.made: set[str] = set()  # topics that were not there
        self.partitions: dict[str, int] = {}  # how many each topic has
        self.doubtful = False  # the last event could not be stored
        self.unusable = False  # nor can the next one, by this producer

    async def connect(self) -> None:
        # It says ten times a second, with a stack, what we say in a sentence.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self.admin = AIOKafkaAdminClient(**self.access, request_timeout_ms=5000)
        self.producer = self._new_producer()
        try:
            async with asyncio.timeout(60):
                await self.admin.start()
                await self.producer.start()
                await self._make_topics()
                await asyncio.gather(*(self._place(each) for each in self.subscriptions))
        except AWAY as error:
            await self.close()
            raise EngineUnusable(
                f"No Kafka to work with at {self.address} ({type(error).__name__}): "
                "start it, or correct BROKER_URL."
            ) from None

    def _new_producer(self) -> Any:
        options = {"acks": "all", "enable_idempotence": True, "max_request_size": LARGEST}
        return AIOKafkaProducer(**self.access, **options)

    async def _make_topics(self) -> None:
        """Make the topics that are not there."""
        large = {"max.message.bytes": str(LARGEST)}
        days = {"retention.ms": str(KEEP * 1000)}
        compact = {"cleanup.policy": "compact"}
        topics = [NewTopic(LETTERS, 1, -1, {}, topic_configs=compact | large)]
        for event in delivery.shared_events():
            topics.append(NewTopic(_topic(event.__name__), PARTITIONS, -1, {}, topic_configs=days))
        for each in self.subscriptions:
            topics.append(
                NewTopic(_again(each.name), delivery.TRIES, -1, {}, topic_configs=days | large)
            )
        there = await self.admin.describe_topics()
        self.partitions = {each["topic"]: len(each["partitions"]) for each in there}
        wanted = {_again(each.name): NewPartitions(delivery.TRIES) for each in self.subscriptions}
        few = {name for name in wanted if 0 < self.partitions.get(name, 0) < delivery.TRIES}
        if few:  # there are more tries than there used to be
            await self.admin.create_partitions({name: wanted[name] for name in few})
        missing = [topic for topic in topics if topic.name not in self.partitions]
        answer = await self.admin.create_topics(missing) if missing else None
        for name, code, *_ in answer.topic_errors if answer else ():
            if code not in (0, EXISTS):
                raise for_code(code)(name)
            if code == 0:
                self.made.add(name)

    async def _place(self, subscription: Subscription) -> None:
        """Let a new listener begin with what comes after it; wait if another instance does that."""
        topic, group = _topic(subscription.heard), _group(subscription)
        if _again(subscription.name) not in self.made:
            for _ in range(100):
                if await _soon(lambda: self.admin.list_consumer_group_offsets(group)):
                    return
                await asyncio.sleep(0.1)
            return  # Kafka has forgotten the group: it begins with the oldest that is kept
        consumer = AIOKafkaConsumer(**self.access, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            count = self.partitions.get(topic, PARTITIONS)
            partitions = [TopicPartition(topic, number) for number in range(count)]
            ends = await _soon(lambda: consumer.end_offsets(partitions))
            consumer.assign(partitions)
            await consumer.commit({at: (end, "0") for at, end in ends.items()})
        finally:
            await consumer.stop()

    async def consume(self) -> None:
        self.lines = [_Line(self, subscription) for subscription in self.subscriptions]
        with suppress(TimeoutError):  # which a group may take that waits for one that was killed
            async with asyncio.timeout(STORE_TIMEOUT):
                await asyncio.gather(*(line.begun.wait() for line in self.lines))

    async def finish(self) -> None:
        await asyncio.gather(*(line.finish() for line in self.lines))

    async def close(self) -> None:
        for client in (self.producer.stop, self.admin.close):
            with suppress(*AWAY):
                async with asyncio.timeout(STORE_TIMEOUT):
                    await client()

    async def store(
        self, event_type: str, event_id: str, document: bytes, to: str = "", key: str = ""
    ) -> None:
        if to:  # as what failed no time yet
            await self.send(_again(to), document, key.encode() or None, 0)
        else:
            await self.send(_topic(event_type), document, key.encode() or None)

    async def send(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int | None = None
    ) -> None:
        """Return once all replicas that are in step have the record; raise EventNotStored."""
        if self.doubtful and not await self.answers():  # else aiokafka would send it much later
            raise EventNotStored(f"{self.address} is away")
        headers = [("content-type", CONTENT_TYPE.encode())]
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                if self.unusable:
                    await self._renew_producer()
                await self.producer.send_and_wait(topic, value, key, partition, headers=headers)
        except AWAY as error:
            self.doubtful = True
            self.unusable = not getattr(error, "retriable", True)
            raise EventNotStored(f"{self.address}: {type(error).__name__}") from error
        self.doubtful = False

    async def _renew_producer(self) -> None:
        """Take the place of a producer that is at its end, as after a number out of sequence."""
        new = self._new_producer()
        await new.start()
        old, self.producer, self.unusable = self.producer, new, False
        with suppress(*AWAY):
            await old.stop()

    async def answers(self) -> bool:
        try:
            async with asyncio.timeout(2):
                await self.admin.describe_topics([LETTERS])
        except AWAY:
            return False
        return True

    async def letters(self) -> list[tuple[bytes, Letter]]:
        found: dict[bytes, Letter] = {}
        at = TopicPartition(LETTERS, 0)
        consumer = AIOKafkaConsumer(**self.access, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([at])
            await consumer.seek_to_beginning(at)
            [end] = (await _soon(lambda: consumer.end_offsets([at]))).values()
            while await consumer.position(at) < end:
                for record in (await consumer.getmany(at, timeout_ms=1000)).get(at, ()):
                    found.pop(record.key, None)
                    if record.value is not None:  # else it was taken out
                        found[record.key] = Letter.model_validate_json(record.value)
        finally:
            await consumer.stop()
        return list(found.items())

    async def discard(self, place: bytes) -> None:
        await self.send(LETTERS, None, place, 0)


class _Line(ConsumerRebalanceListener):  # type: ignore[misc]
    """One listener in this process: a member of its group, with a lane for each partition it has."""

    def __init__(self, engine: Engine, subscription: Subscription) -> None:
        self.engine = engine
        self.subscription = subscription
        self.group = _group(subscription)
        self.again = _again(subscription.name)
        self.turns = asyncio.Semaphore(delivery.AT_ONCE)
        self.lanes: dict[TopicPartition, _Lane] = {}
        self.late: dict[TopicPartition, _Lane] = {}  # given up, while an event was in hand
        self.finishing = False
        self.begun = asyncio.Event()
        self.broken = asyncio.Event()
        self.beginning: asyncio.Task[None] | None = None
        self.notes: dict[TopicPartition, tuple[int, str]] = {}
        self.committing = asyncio.Lock()
        self.next_commit: asyncio.Task[None] | None = None
        self.task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        """Be a member of the group; become one anew whenever that breaks."""
        lease = round(delivery.LEASE * 1000)
        while True:
            self.broken.clear()
            self.consumer = AIOKafkaConsumer(
                **self.engine.access,
                group_id=self.group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=lease,  # who is not heard of for so long has been killed
                heartbeat_interval_ms=lease // 10,
                rebalance_timeout_ms=lease,
                request_timeout_ms=lease + 10_000,  # to join may take all of the rebalance
                max_poll_interval_ms=2**31 - 1,  # a slow listener is not a dead one
                fetch_max_wait_ms=100,  # what comes in meanwhile for another lane waits so long
            )
            topics = [_topic(self.subscription.heard), self.again]
            self.consumer.subscribe(topics, listener=self)
            try:
                await self.consumer.start()
                await self.broken.wait()
            except AWAY as error:
                self.report(error)
            finally:
                with suppress(*AWAY):
                    await self._release(STORE_TIMEOUT)
                with suppress(*AWAY):
                    await self.consumer.stop()  # else it would stay a member that takes nothing
            await asyncio.sleep(1)

    def report(self, error: Exception) -> None:
        log.warning("%s waits for Kafka: %s", self.subscription.name, type(error).__name__)

    async def finish(self) -> None:
        """Take nothing new; return once what is in hand is done and the group is left."""
        self.finishing = True
        for lane in self.lanes.values():
            lane.leave()
        for _ in range(delivery.AT_ONCE):  # who has all turns knows that nothing is in hand
            await self.turns.acquire()
        self.task.cancel()
        await asyncio.wait([self.task], timeout=2 * STORE_TIMEOUT)  # Kafka may be away

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._release(delivery.LEASE / 2)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        if not (self.finishing or self.broken.is_set()):  # else this membership ends
            self.beginning = asyncio.create_task(self._begin(list(assigned)))

    async def _begin(self, assigned: list[TopicPartition]) -> None:
        """Open a lane for each partition, with what the owner before noted."""
        admin = self.engine.admin
        try:
            places = await _soon(
                lambda: admin.list_consumer_group_offsets(self.group, None, assigned)
            )
            ends = await _soon(lambda: self.consumer.end_offsets(assigned))
        except Exception as error:
            self.report(error)
            self.broken.set()
            return
        for at in assigned:
            offset, note = places.get(at, (-1, ""))
            begun = 0 if offset in (-1, ends[at]) else int(note) if note.isdecimal() else 1
            self.lanes[at] = _Lane(self, at, (offset, str(begun)), begun, self.late.pop(at, None))
        self.begun.set()

    async def _release(self, seconds: float) -> None:
        """Give up all partitions, each with a note; what takes longer than `seconds` goes on."""
        if self.beginning:
            self.beginning.cancel()
        lanes, self.lanes = self.lanes, {}
        self.late |= lanes
        for lane in lanes.values():
            lane.leave()
        if lanes:
            await asyncio.wait([lane.task for lane in lanes.values()], timeout=seconds)
        notes = {}
        for at, lane in lanes.items():
            if not lane.task.done():
                continue
            if lane.before:  # which this lane was still waiting for
                self.late[at] = lane.before
            else:
                self.late.pop(at, None)
            if lane.place[0] >= 0:
                notes[at] = lane.place
        if notes:
            with suppress(CommitFailedError, IllegalStateError):  # somebody else has them
                await self.consumer.commit(notes)

    async def commit(self, at: TopicPartition, offset: int, note: str = "") -> None:
        """Return once Kafka knows the lane's place; what several lanes say goes in one request."""
        self.notes[at] = (offset, note)
        if self.next_commit is None:
            self.next_commit = asyncio.create_task(self._commit())
            self.next_commit.add_done_callback(_seen)
        await asyncio.shield(self.next_commit)

    async def _commit(self) -> None:
        async with self.committing:
            notes, self.notes, self.next_commit = self.notes, {}, None
            await self.consumer.commit(notes)


class _Lane:
    """One partition while this process has it: in order, one event in hand at most."""

    def __init__(
        self,
        line: _Line,
        at: TopicPartition,
        place: tuple[int, str],
        begun: int,
        before: "_Lane | None",
    ) -> None:
        self.line = line
        self.at = at
        self.failed = at.partition if at.topic == line.again else 0
        self.place = place  # the offset of what comes next, and the note
        self.begun: int | None = begun  # how often the first one was begun by others
        self.before = before
        self.record: ConsumerRecord | None = None  # in hand
        self.leaving = False
        self.task = asyncio.create_task(self._serve())

    def leave(self) -> None:
        """Take nothing new."""
        self.leaving = True
        if self.record is None:
            self.task.cancel()

    async def _serve(self) -> None:
        try:
            if self.before:
                await asyncio.wait([self.before.task])
            while not self.leaving:
                record = await self.line.consumer.getone(self.at)
                if not self._handled_late(record):
                    await self._handle(record)
                self.begun = None
                self.place = (record.offset + 1, "0")
                if not self.leaving:  # else who called `leave` says where it stopped
                    await self.line.commit(self.at, record.offset + 1)
                    self.record = None
        except (CommitFailedError, IllegalStateError):
            pass  # the group has been shared out anew, or soon will be
        except Exception as error:  # whatever it is, a lane must not end in silence
            self.line.report(error)
            self.line.broken.set()

    def _handled_late(self, record: ConsumerRecord) -> bool:
        """Say whether the lane before this one did it, after the partition was given up."""
        last = self.before and self.before.place[0] == record.offset + 1 and self.before.record
        self.before = None
        return bool(last and last.timestamp == record.timestamp)

    async def _handle(self, record: ConsumerRecord) -> None:
        """Let the listener try it; return when it is done, or safe elsewhere."""
        if self.failed:
            wait = delivery.wait_after(self.failed)
            await asyncio.sleep(min(wait, record.timestamp / 1000 + wait - time.time()))
        async with self.line.turns:
            if self.begun is not None:  # from the second on it is known that nobody began it
                await self.line.commit(self.at, record.offset, str(self.begun + 1))
            self.record = record
            tried = self.failed + (self.begun or 0)
            subscription, document = self.line.subscription, record.value or b""
            outcome = await delivery.attempt(subscription, document, tried)
        while outcome is not None:
            try:
                await self._keep(record, outcome, tried + 1)
                return
            except EventNotStored as error:
                if self.leaving:
                    raise
                self.line.report(error)
                await asyncio.sleep(1)

    async def _keep(self, record: ConsumerRecord, outcome: float | Letter, tried: int) -> None:
        send = self.line.engine.send
        if isinstance(outcome, Letter):
            place = (self.line.group, *self.at, record.offset, record.timestamp)
            key = " ".join(map(str, place)).encode()  # twice the same, if it has to be said twice
            await send(LETTERS, outcome.model_dump_json().encode(), key, 0)
        else:
            await send(self.line.again, record.value, record.key, tried)


async def _soon(call: Callable[[], Awaitable[T]]) -> T:
    """Return what `call` does; what Kafka has just made may not be known everywhere yet."""
    for _ in range(100):
        try:
            return await call()
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(0.1)
    return await call()


def _seen(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # which each lane that waits for it has too


def describe(
    address: str, events: list[Any], readers: dict[Subscription, Callable[..., Any]]
) -> KafkaBroker:
    """Return a broker that is never connected, for FastStream to describe."""
    broker = KafkaBroker(address.partition("://")[2])
    for event in events:
        name = event.__name__
        broker.publisher(_topic(name), title=name, schema=document_of(event))
    for subscription, reader in readers.items():
        topic, group = _topic(subscription.heard), _group(subscription)
        broker.subscriber(topic, group_id=group, title=subscription.name)(reader)
    return broker


def _closed_is_an_error_of_kafka(send: Callable[..., Any]) -> Callable[..., Any]:
    """Return `send` with an error that aiokafka's tasks live through, when uvloop has closed.

    uvloop raises RuntimeError, which ends them in silence: github.com/aio-libs/aiokafka/issues/1038.
    """

    def sent(connection: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
        try:
            return send(connection, *arguments, **options)
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(str(error)) from error

    return sent


for _name in ("send", "_send_sasl_token"):
    setattr(
        AIOKafkaConnection,
        _name,
        _closed_is_an_error_of_kafka(getattr(AIOKafkaConnection, _name)),
    )


def _topic(event_type: str) -> str:
    return f"{SERVICE}.{_legal(event_type)}"


def _group(subscription: Subscription) -> str:
    return f"{SERVICE}.{subscription.name}"


def _again(listener: str) -> str:
    return f"{SERVICE}.{_legal(listener)}.again"


def _legal(name: str) -> str:
    """Return `name` as a topic may be called; Python allows more letters."""
    return re.sub(r"[^\w.]", lambda letter: f"-{ord(letter[0]):x}", name, flags=re.ASCII)


def _access(url: str, address: str) -> dict[str, Any]:
    parts = urlsplit(url)
    access: dict[str, Any] = {"bootstrap_servers": address.partition("://")[2]}
    protocol = "SSL" if parts.scheme.endswith("s") else "PLAINTEXT"
    if protocol == "SSL":
        access["ssl_context"] = ssl.create_default_context()
    if parts.username:
        protocol = f"SASL_{protocol}"
        access["sasl_mechanism"] = SASL
        access["sasl_plain_username"] = unquote(parts.username)
        access["sasl_plain_password"] = unquote(parts.password or "")
    return access | {"security_protocol": protocol}


if __name__ == "__main__":
    from app.letters import main

    main()
