"""The adapter for Kafka: a group for each listener, which moves past an event when it's done.

- Topic SERVICE.OrderPlaced: the events, handled or not, for KEEP; those with one partition key are
  in one of its PARTITIONS, in order.
- Group SERVICE.OrderPlaced.app.handlers.orders.send_receipt: how far that listener is. The metadata
  of its offset in a partition says how often the event there may have been begun.
- Topic SERVICE.OrderPlaced.app.handlers.orders.send_receipt.retry: what that listener has to attempt
  again; after N attempts it's in partition N, so that short waits aren't behind long ones.
- Topic SERVICE.dead-letters.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import aiokafka  # type: ignore[import-untyped]
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic  # type: ignore[import-untyped]
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError  # type: ignore[import-untyped]
from pydantic_core import from_json

from app.messaging import aiokafka_1038, delivery  # noqa: F401  (the first one fixes aiokafka)
from app.messaging.cloudevents import CONTENT_TYPE
from app.messaging.delivery import Backlog, DeadLetter, EventNotStored, Subscription, log, safe
from app.messaging.settings import SERVICE, BrokerUnavailable, address_of, settings

PARTITIONS = 12  # of each topic of events: so many instances can share one listener's work
KEEP = 7 * 24 * 3600  # seconds
# The bytes of an event, with what Kafka adds; topics of retries and dead letters take twice that.
MAX_BYTES = 2**20
SASL = "PLAIN"  # how to log in; some hosts want SCRAM-SHA-256 or SCRAM-SHA-512
DEAD_LETTERS = f"{SERVICE}.dead-letters"
AWAY = (KafkaError, OSError, TimeoutError)
NOTHING = TopicPartition("", 0)  # to ask for it raises what keeps a member out of its group


class Broker:
    max_bytes = MAX_BYTES

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self.address, self.subscriptions = address_of(settings.url), subscriptions
        self.clients: list[Any] = []
        self.made: set[str] = set()  # topics that weren't there
        self.partitions: dict[str, int] = {}  # how many each topic has
        self.doubtful = False  # the last event couldn't be stored

    async def connect(self) -> None:
        # It logs ten times a second, with a traceback, what we log in a sentence.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        try:
            self.access = access = _access(settings.url, self.address)
            self.admin = AIOKafkaAdminClient(**access, request_timeout_ms=15_000)
            # An idempotent one stops for good after some failures (a number is missing).
            self.producer = AIOKafkaProducer(**access, acks="all", max_request_size=2 * MAX_BYTES)
            self.clients = [self.producer.stop, self.admin.close]
            async with asyncio.timeout(60):
                await self.admin.start()
                await self.producer.start()
                await self._make_topics()
                await asyncio.gather(*(self._place(each) for each in self.subscriptions))
        except Exception as error:  # a URL that Python doesn't understand raises others, too
            said = f"No Kafka at {self.address} ({type(error).__name__})"
            raise BrokerUnavailable(f"{said}: start it, or correct BROKER_URL.") from None

    async def _make_topics(self) -> None:
        """Make the topics that aren't there."""
        days = {"retention.ms": str(KEEP * 1000)}
        normal, large = ({"max.message.bytes": str(size * MAX_BYTES)} for size in (1, 2))
        compact = {"cleanup.policy": "compact"}
        topics = [NewTopic(DEAD_LETTERS, 1, -1, {}, topic_configs=compact | large)]
        for name in (_topic(each.__name__) for each in delivery.event_types()):
            topics.append(NewTopic(name, PARTITIONS, -1, {}, topic_configs=days | normal))
        retries = [_topic(f"{each.name}.retry") for each in self.subscriptions]
        count = settings.max_attempts
        topics += [NewTopic(name, count, -1, {}, topic_configs=days | large) for name in retries]
        there = await self.admin.describe_topics()
        self.partitions = {each["topic"]: len(each["partitions"]) for each in there}
        few = [name for name in retries if self.partitions.get(name, count) < count]
        if few:  # there are more attempts than there used to be
            await self.admin.create_partitions(dict.fromkeys(few, NewPartitions(count)))
        new = [topic for topic in topics if topic.name not in self.partitions]
        for name, code, *_ in (await self.admin.create_topics(new)).topic_errors if new else ():
            if code not in (0, aiokafka.errors.TopicAlreadyExistsError.errno):  # another made it
                raise aiokafka.errors.for_code(code)(name)
            if code == 0:
                self.made.add(name)

    async def _place(self, subscription: Subscription) -> None:
        """Let a new listener begin with what comes after it; wait if another instance does that."""
        group, topic = _topic(subscription.name), _topic(subscription.type)
        if _topic(f"{subscription.name}.retry") not in self.made:
            for _ in range(100):
                if await _soon(lambda: self.admin.list_consumer_group_offsets(group)):
                    return
                await asyncio.sleep(0.1)
            return  # Kafka has forgotten the group: it begins with the oldest that is kept
        places = [TopicPartition(topic, at) for at in range(self.partitions.get(topic, PARTITIONS))]
        options = {"group_id": group, "enable_auto_commit": False}
        async with AIOKafkaConsumer(**self.access, **options) as consumer:
            ends = await _soon(lambda: consumer.end_offsets(places))
            consumer.assign(places)
            await consumer.commit({at: (end, "0") for at, end in ends.items()})

    async def consume(self) -> None:
        self.members = [_Member(self, subscription) for subscription in self.subscriptions]
        with suppress(TimeoutError):  # which a group may take that waits for one that was killed
            async with asyncio.timeout(settings.timeout):
                await asyncio.gather(*(member.begun.wait() for member in self.members))

    async def finish(self) -> None:
        await asyncio.gather(*(member.finish() for member in self.members))

    async def close(self) -> None:
        for close in self.clients:
            with suppress(*AWAY):
                async with asyncio.timeout(settings.timeout):
                    await close()

    async def publish(self, event_type: str, event_id: str, document: bytes, key: str) -> None:
        await self.send(_topic(event_type), document, key.encode() or None)

    async def send(self, topic: str, value: Any, key: Any, number: Any = None, **more: str) -> None:
        """Return once all in-sync replicas have the record; raise EventNotStored if they don't."""
        texts = {"content-type": CONTENT_TYPE} | more
        headers = [(name.replace("_", "-"), text.encode()) for name, text in texts.items()]
        try:
            async with asyncio.timeout(settings.timeout):
                if self.doubtful:
                    await self.ping()  # else aiokafka would send it much later
                await self.producer.send_and_wait(topic, value, key, number, headers=headers)
        except aiokafka.errors.MessageSizeTooLargeError as error:
            raise delivery.EventTooLarge(f"{topic}: {error}") from error
        except AWAY as error:
            self.doubtful = True
            raise EventNotStored(f"{self.address}: {error!r}") from error
        self.doubtful = False

    async def ping(self) -> None:
        async with asyncio.timeout(2):
            await self.admin.describe_topics([DEAD_LETTERS])

    async def backlog(self, subscription: Subscription) -> Backlog:
        found = Backlog(in_hand=None)  # Kafka knows how far a group is, not what it has in hand
        async with AIOKafkaConsumer(**self.access, auto_offset_reset="earliest") as consumer:
            places = await self.admin.list_consumer_group_offsets(_topic(subscription.name))
            ends = await _soon(lambda: consumer.end_offsets(list(places)))
            kept = await consumer.beginning_offsets(list(places))
            behind = [at for at in places if max(places[at].offset, kept[at]) < ends[at]]
            consumer.assign(behind)
            for at in behind:
                consumer.seek(at, places[at].offset)  # it begins with the first that's kept
            firsts = [consumer.getmany(at, timeout_ms=2000, max_records=1) for at in behind]
            for got in await asyncio.gather(*firsts):  # nothing if only a transaction ends there
                for at, [event] in got.items():
                    found.waiting += max(ends[at] - event.offset, 0)
                    found.oldest = max(int(time.time() - event.timestamp / 1000), found.oldest or 0)
        return found

    async def dead_letters(self) -> list[tuple[bytes, DeadLetter]]:
        found: dict[bytes, DeadLetter] = {}
        at = TopicPartition(DEAD_LETTERS, 0)
        async with AIOKafkaConsumer(**self.access, enable_auto_commit=False) as consumer:
            consumer.assign([at])
            await consumer.seek_to_beginning(at)
            [end] = (await _soon(lambda: consumer.end_offsets([at]))).values()
            while await consumer.position(at) < end:
                for record in (await consumer.getmany(at, timeout_ms=1000)).get(at, ()):
                    found.pop(record.key, None)
                    if record.value is not None:  # else it was replayed
                        header = dict(record.headers)["dead-letter"]
                        found[record.key] = DeadLetter(**from_json(header), document=record.value)
        return list(found.items())

    async def replay(self, place: bytes, letter: DeadLetter) -> None:
        await self.send(_topic(f"{letter.listener}.retry"), letter.document, None, 0)
        await self.send(DEAD_LETTERS, None, place, 0)


class _Member(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
    """One listener in this process: a member of its group, with some of the partitions."""

    def __init__(self, broker: Broker, subscription: Subscription) -> None:
        self.broker, self.subscription = broker, subscription
        self.group, self.retry = _topic(subscription.name), _topic(f"{subscription.name}.retry")
        self.slots = asyncio.Semaphore(settings.concurrency)
        self.partitions: list[_Partition] = []
        self.finishing = False
        self.begun, self.broken = asyncio.Event(), asyncio.Event()
        self.places: dict[TopicPartition, tuple[int, str]] = {}  # to commit
        self.task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        """Join the group; rejoin it whenever that breaks."""
        lease = settings.lease
        while True:
            self.broken.clear()
            self.committing = asyncio.Lock()  # a commit of the last membership may hang for ever
            self.next_commit: asyncio.Task[None] | None = None
            self.consumer = AIOKafkaConsumer(
                **self.broker.access,
                group_id=self.group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=round(lease * 1000),  # who's silent for so long was killed
                heartbeat_interval_ms=round(lease * 100),
                rebalance_timeout_ms=round(lease * 10_000),  # so long it waits for events in hand
                max_poll_interval_ms=2**31 - 1,  # a slow listener isn't dead
                fetch_max_wait_ms=100,  # what comes in for another partition waits so long
            )
            self.consumer.subscribe([_topic(self.subscription.type), self.retry], listener=self)
            try:
                await self.consumer.start()
                while not self.broken.is_set():
                    look = self.broken.wait() if self.partitions else self.consumer.getone(NOTHING)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(look, 2)
            except aiokafka.errors.InvalidSessionTimeoutError:
                lease = min(max(lease, 6), 1800)  # Kafka's limits, unless they're configured
                log.warning("Kafka refuses BROKER_LEASE=%s; trying %s.", settings.lease, lease)
            except Exception as error:  # whatever it is, a listener must go on
                self.report(error)
            finally:
                with suppress(Exception):
                    await self.on_partitions_revoked()
                with suppress(Exception):
                    await self.consumer.stop()  # else it would stay a member that takes nothing
            await asyncio.sleep(1)

    def report(self, error: BaseException) -> None:
        log.warning("%s waits for Kafka: %s", self.subscription.name, type(error).__name__)

    async def finish(self) -> None:
        """Take nothing new; finish what's in hand, then leave the group."""
        self.finishing = True
        await self._leave()
        self.task.cancel()
        await asyncio.wait([self.task], timeout=2 * settings.timeout)  # Kafka may be away

    async def _leave(self) -> list["_Partition"]:
        """Take nothing new from the partitions; return them once what's in hand is done."""
        partitions = self.partitions
        for partition in partitions:
            partition.leaving = True
            if not partition.in_hand:
                partition.task.cancel()
        await asyncio.gather(*(each.task for each in partitions), return_exceptions=True)
        return partitions

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition] = ()) -> None:
        """Give up all partitions and commit their offsets; Kafka waits before it gives them away."""
        places = {each.at: each.place for each in await self._leave() if each.place[0] >= 0}
        self.partitions, self.places = [], {}
        if places:
            with suppress(CommitFailedError, IllegalStateError):  # somebody else has them
                await self.commit(places)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Serve each partition, from where its last owner stopped."""
        admin, group, partitions = self.broker.admin, self.group, list(assigned)
        try:
            places = await _soon(lambda: admin.list_consumer_group_offsets(group, None, partitions))
            ends = await _soon(lambda: self.consumer.end_offsets(partitions))
        except Exception as error:
            self.report(error)
            self.broken.set()
        if self.finishing or self.broken.is_set():
            return  # this membership ends
        for at in partitions:
            offset, note = places.get(at, (-1, ""))
            begun = 0 if offset in (-1, ends[at]) else int(note) if note.isdecimal() else 1
            self.partitions.append(_Partition(self, at, (offset, str(begun)), begun))
        self.begun.set()

    async def commit(self, places: dict[TopicPartition, tuple[int, str]]) -> None:
        """Return once Kafka knows `places`; those of several partitions go in one request."""
        self.places |= places
        if self.next_commit is None:
            self.next_commit = asyncio.create_task(self._commit())
            self.next_commit.add_done_callback(self._committed)
        # A cancelled commit of aiokafka's goes on, and its exception can't be caught.
        task = self.next_commit
        await asyncio.wait([task])
        task.result()

    async def _commit(self) -> None:
        async with self.committing:  # the next one collects what comes meanwhile
            places, self.places, self.next_commit = self.places, {}, None
            if places:
                await self.consumer.commit(places)

    def _committed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.report(error)  # what was in hand comes again


class _Partition:
    """One partition while this process has it: in order, one event in hand at most."""

    def __init__(self, member: _Member, at: TopicPartition, place: Any, begun: int) -> None:
        self.member, self.at = member, at
        self.failed = at.partition if at.topic == member.retry else 0
        self.place: tuple[int, str] = place  # the next offset, and its metadata
        self.begun: int | None = begun  # how often others began the first one
        self.in_hand = self.leaving = False
        self.task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        try:
            while not self.leaving:
                record = await self.member.consumer.getone(self.at)
                await self._handle(record)
                self.begun, self.in_hand, self.place = None, False, (record.offset + 1, "0")
                if not self.leaving:  # else on_partitions_revoked commits it
                    await self.member.commit({self.at: (record.offset + 1, "")})
        except (CommitFailedError, IllegalStateError):
            pass  # the group was rebalanced, or soon will be
        except Exception as error:  # whatever it is, it mustn't end silently
            self.member.report(error)
            self.member.broken.set()

    async def _handle(self, record: Any) -> None:
        """Let the listener attempt it; return when it's done, or stored elsewhere."""
        if self.failed:
            wait = delivery.backoff(self.failed)
            await asyncio.sleep(min(wait, record.timestamp / 1000 + wait - time.time()))
        async with self.member.slots:
            if self.begun is not None:  # nobody else has begun the ones after it
                await self.member.commit({self.at: (record.offset, str(self.begun + 1))})
            self.in_hand = True
            number = 1 + self.failed + (self.begun or 0)
            subscription, document = self.member.subscription, record.value or b""
            outcome = await delivery.attempt(subscription, document, number)
        while outcome is not None:
            try:
                return await self._keep(record, outcome, number)
            except EventNotStored as error:
                if self.leaving:
                    raise
                self.member.report(error)
                await asyncio.sleep(1)

    async def _keep(self, record: Any, outcome: float | DeadLetter, number: int) -> None:
        if isinstance(outcome, DeadLetter):
            place = (outcome.listener, *self.at, record.offset, record.timestamp)
            key = " ".join(map(str, place)).encode()  # the same if it's sent twice
            letter, send = outcome.model_dump_json(), self.member.broker.send
            await send(DEAD_LETTERS, outcome.document, key, 0, dead_letter=letter)
        else:
            await self.member.broker.send(self.member.retry, record.value, record.key, number)


async def _soon(call: Callable[[], Awaitable[Any]]) -> Any:
    """Return what `call` returns; try again while Kafka's nodes don't all know a new topic."""
    for _ in range(100):
        try:
            return await call()
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(0.1)
    return await call()


def _topic(name: str) -> str:
    return f"{SERVICE}.{safe(name)}"


def _access(url: str, address: str) -> dict[str, Any]:
    parts = urlsplit(url)
    tls = ssl.create_default_context() if parts.scheme.endswith("s") else None
    access = {"bootstrap_servers": address.partition("://")[2], "ssl_context": tls}
    protocol = "SSL" if tls else "PLAINTEXT"
    if parts.username:
        protocol = f"SASL_{protocol}"
        access["sasl_mechanism"] = SASL
        access["sasl_plain_username"] = unquote(parts.username)
        access["sasl_plain_password"] = unquote(parts.password or "")
    return access | {"security_protocol": protocol}
