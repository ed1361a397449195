"""The batcher against a small in-memory exchange that answers when the test says so."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from models.cost import COSTLY_PIXELS
from service.batcher import Batcher, DeadlineExceeded, NoLiveWorker, TooManyWaiting, VersionKey
from service.exchange import BrokerUnavailable, ImageContent, Place, ReplyInterrupted, StoredImage, WorkerLost
from service.lane import Answer, PendingImage
from service.metrics import GatewayMetrics
from workers.contract.messages import ClassifyBatch, ClassifyReply, ClassScore, Explain, ImageOutcome

CATS = VersionKey("cats", 1, "models/cats/1/")
DOGS = VersionKey("dogs", 1, "models/dogs/1/")


@dataclass
class MemoryExchange:
    """Keeps what was sent; each image is answered by a class whose label is its bytes."""

    sent: list[ClassifyBatch] = field(default_factory=list)
    contents: list[list[bytes]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[Exception] = field(default_factory=list)

    def place(self, _batch: str, images: Sequence[ImageContent]) -> Place:
        stored = next((image.server for image in images if isinstance(image, StoredImage)), "one")
        return Place(stored, "reply", tuple(f"image:{n}" for n in range(len(images))))

    async def ask(self, batch: ClassifyBatch, images: Sequence[ImageContent]) -> ClassifyReply:
        self.sent.append(batch)
        contents = [data for data in images if isinstance(data, bytes)]
        self.contents.append(contents)
        if self.failures:
            raise self.failures.pop(0)
        await self.gate.wait()
        outcomes = tuple(ImageOutcome((ClassScore(0, data.decode(), 1.0),)) for data in contents)
        return ClassifyReply(batch.batch, "worker", "CPUExecutionProvider", outcomes)


def make(exchange: MemoryExchange, *, slots: int = 1, **limits: int) -> Batcher:
    bounds = {"max_batch": 8, "max_batch_bytes": 1000, "max_waiting": 100, "max_waiting_bytes": 10_000, **limits}
    return Batcher(exchange, lambda: slots, GatewayMetrics(), **bounds)


def ask(
    batcher: Batcher, *images: ImageContent, version: VersionKey = CATS, timeout_s: float = 5, priority: int = 9
) -> asyncio.Task[list[Answer]]:
    asked = batcher.classify(version, images, top_k=1, timeout_s=timeout_s, request_id="r", priority=priority)
    return asyncio.create_task(asked)


def run(scenario: Callable[[MemoryExchange], Awaitable[None]]) -> None:
    async def start() -> None:
        await scenario(MemoryExchange())

    asyncio.run(start())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def labels(answers: list[Answer]) -> list[str]:
    return [answer.outcome.classes[0].label for answer in answers]


def test_a_single_image_leaves_at_once() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        answer = ask(batcher, b"a")
        await settle()
        assert exchange.contents == [[b"a"]]
        exchange.gate.set()
        assert labels(await answer) == ["a"]

    run(scenario)


def test_what_waits_while_all_slots_are_taken_leaves_as_one_batch() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        answers = [ask(batcher, bytes([letter])) for letter in b"abcdef"]
        await settle()
        assert exchange.contents == [[b"a"]]
        exchange.gate.set()
        assert [labels(await answer) for answer in answers] == [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]
        assert exchange.contents == [[b"a"], [b"b", b"c", b"d", b"e", b"f"]]

    run(scenario)


def test_the_last_slot_is_kept_until_its_share_waits() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, slots=2)
        first = ask(batcher, b"a", b"b", b"c", b"d")
        await settle()
        assert exchange.contents == [[b"a", b"b", b"c", b"d"]]
        others = [ask(batcher, b"e")]
        await settle()
        assert len(exchange.contents) == 1
        others.append(ask(batcher, b"f"))
        await settle()
        assert exchange.contents[1:] == [[b"e", b"f"]]
        exchange.gate.set()
        assert labels(await first) == ["a", "b", "c", "d"]
        assert [labels(await answer) for answer in others] == [["e"], ["f"]]

    run(scenario)


def test_what_the_last_slot_is_kept_from_leaves_with_the_next_reply() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, slots=2)
        first = ask(batcher, b"a", b"b", b"c", b"d")
        await settle()
        other = ask(batcher, b"e")
        await settle()
        exchange.gate.set()
        assert labels(await first) == ["a", "b", "c", "d"]
        assert labels(await other) == ["e"]
        assert exchange.contents == [[b"a", b"b", b"c", b"d"], [b"e"]]

    run(scenario)


def test_the_share_of_one_version_does_not_count_what_is_under_way_for_another() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, slots=2)
        answers = [ask(batcher, b"a", b"b", b"c", b"d")]
        answers += [ask(batcher, image, version=DOGS) for image in (b"x", b"y")]
        await settle()
        assert exchange.contents == [[b"a", b"b", b"c", b"d"], [b"x"], [b"y"]]
        exchange.gate.set()
        await asyncio.gather(*answers)

    run(scenario)


def test_a_batch_holds_at_most_max_batch_images_and_bytes() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, max_batch=3, max_batch_bytes=5)
        exchange.gate.set()
        first = ask(batcher, b"x")
        await first
        many = ask(batcher, *[b"a"] * 7)
        await many
        big = ask(batcher, b"1234", b"1234", b"12345678")
        await big
        assert [len(batch) for batch in exchange.contents] == [1, 3, 3, 1, 1, 1, 1]

    run(scenario)


def test_images_for_different_versions_never_share_a_batch() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        cats, dogs = ask(batcher, b"c", b"c"), ask(batcher, b"d", b"d", version=DOGS)
        await settle()
        exchange.gate.set()
        await cats
        await dogs
        assert sorted((batch.model, len(batch.images)) for batch in exchange.sent) == [("cats", 2), ("dogs", 2)]

    run(scenario)


def test_a_batch_asks_for_the_outputs_of_its_images_and_for_no_others() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        exchange.gate.set()
        for version in (CATS, replace(CATS, outputs=("logits",)), replace(CATS, prepared=True)):
            await ask(batcher, b"a", version=version)
        assert [(batch.outputs, batch.prepared) for batch in exchange.sent] == [
            ((), False),
            (("logits",), False),
            ((), True),
        ]

    run(scenario)


def test_what_is_urgent_leaves_before_what_waits_longer_and_among_its_like_in_its_turn() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, max_batch=2)
        answers = [ask(batcher, bytes([letter])) for letter in b"abc"]
        answers += [ask(batcher, b"d", priority=2), ask(batcher, b"e", priority=1), ask(batcher, b"f", priority=2)]
        await settle()
        exchange.gate.set()
        await asyncio.gather(*answers)
        assert exchange.contents == [[b"a"], [b"e", b"d"], [b"f", b"b"], [b"c"]]

    run(scenario)


def test_pixels_cost_no_decoding_whatever_they_look_like() -> None:
    looks_like_a_png = b"\x89PNG\r\n\x1a\n" + bytes(8) + (10_000).to_bytes(4) + (10_000).to_bytes(4)

    async def scenario(_exchange: MemoryExchange) -> None:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        costs = [
            PendingImage(looks_like_a_png, 1, 0.0, "r", None, answered, 0.0, prepared=prepared).cost
            for prepared in (False, True)
        ]
        assert costs == [10_000 * 10_000, 0]

    run(scenario)


def test_who_counts_is_told_of_each_batch_that_was_answered() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        told: list[tuple[str, int]] = []
        batcher.on_batch = lambda version, images, _timings: told.append((version.model, images))
        exchange.gate.set()
        await ask(batcher, b"a", b"b")
        await ask(batcher, b"c", version=DOGS)
        exchange.failures.append(BrokerUnavailable("away"))
        with pytest.raises(BrokerUnavailable):
            await ask(batcher, b"d")
        assert told == [("cats", 2), ("dogs", 1)]

    run(scenario)


def test_a_client_that_leaves_before_dispatch_costs_nothing() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        first, leaver, stayer = ask(batcher, b"a"), ask(batcher, b"b"), ask(batcher, b"c")
        await settle()
        leaver.cancel()
        await settle()
        exchange.gate.set()
        await first
        await stayer
        assert exchange.contents == [[b"a"], [b"c"]]
        assert batcher.waiting == 0

    run(scenario)


def test_a_full_queue_refuses_with_the_time_to_come_again() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, max_waiting=3)
        held = ask(batcher, b"a", b"b", b"c")
        await settle()
        with pytest.raises(TooManyWaiting) as refusal:
            await ask(batcher, b"d")
        assert refusal.value.retry_after_s >= 1
        exchange.gate.set()
        await held
        assert labels(await ask(batcher, b"e")) == ["e"]

    run(scenario)


def test_bytes_are_bounded_like_images() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, max_waiting_bytes=10)
        held = ask(batcher, b"12345678")
        await settle()
        with pytest.raises(TooManyWaiting):
            await ask(batcher, b"123")
        exchange.gate.set()
        await held
        assert labels(await ask(batcher, b"123")) == ["123"]

    run(scenario)


def test_an_empty_queue_takes_one_request_larger_than_its_bounds() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        exchange.gate.set()
        assert len(await ask(make(exchange, max_waiting=2), b"a", b"b", b"c")) == 3

    run(scenario)


def test_without_a_live_worker_nothing_is_accepted() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        with pytest.raises(NoLiveWorker):
            await ask(make(exchange, slots=0), b"a")
        assert exchange.sent == []

    run(scenario)


def test_when_the_last_worker_falls_silent_those_who_wait_are_told() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        slots = 1
        batcher = make(exchange)
        batcher.slots = lambda: slots
        in_flight, waiting = ask(batcher, b"a"), ask(batcher, b"b")
        await settle()
        watching = asyncio.create_task(batcher.watch_workers())
        slots = 0
        for request in (in_flight, waiting):
            with pytest.raises(NoLiveWorker):
                await request
        watching.cancel()
        assert batcher.waiting == 0

    run(scenario)


def test_what_the_last_worker_still_answers_before_it_ends_is_waited_for_and_nothing_new_is_taken() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        slots = 1
        batcher = make(exchange)
        batcher.slots, batcher.is_finished = (lambda: slots), (lambda: False)
        in_hand = ask(batcher, b"a")
        await settle()
        watching = asyncio.create_task(batcher.watch_workers())
        slots = 0
        # Some rounds of the watch.
        await asyncio.sleep(0.3)
        with pytest.raises(NoLiveWorker):
            await ask(batcher, b"b")
        exchange.gate.set()
        (answer,) = await in_hand
        assert answer.outcome.classes[0].label == "a"
        watching.cancel()

    run(scenario)


def test_the_deadline_ends_the_wait_and_frees_the_place() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        with pytest.raises(DeadlineExceeded):
            await ask(batcher, b"a", timeout_s=0.05)
        assert batcher.waiting == 0

    run(scenario)


def test_a_lost_message_does_not_hold_its_slot_for_ever() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        batcher.slot_timeout_s = 0.05
        lost = ask(batcher, b"a", timeout_s=20)
        await settle()
        next_one = ask(batcher, b"b", timeout_s=20)
        await settle()
        assert exchange.contents == [[b"a"]]
        await until(lambda: exchange.contents == [[b"a"], [b"b"]])
        exchange.gate.set()
        await lost
        await next_one

    run(scenario)


def test_an_interrupted_batch_is_sent_once_more() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        exchange.gate.set()
        exchange.failures = [ReplyInterrupted("gone")]
        assert labels(await ask(make(exchange), b"a", b"b")) == ["a", "b"]
        assert exchange.contents == [[b"a", b"b"], [b"a", b"b"]]

    run(scenario)


def test_a_batch_interrupted_twice_is_given_up() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        exchange.failures = [ReplyInterrupted("gone"), ReplyInterrupted("gone")]
        with pytest.raises(BrokerUnavailable):
            await ask(make(exchange), b"a")

    run(scenario)


def test_an_unreachable_broker_is_told_at_once() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        exchange.failures = [BrokerUnavailable("connection refused")]
        with pytest.raises(BrokerUnavailable, match="refused"):
            await ask(make(exchange), b"a")

    run(scenario)


def test_an_error_that_nobody_foresaw_is_told_at_once_and_frees_the_slot() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        exchange.failures = [ZeroDivisionError("unforeseen")]
        batcher = make(exchange)
        with pytest.raises(ZeroDivisionError):
            await ask(batcher, b"a")
        exchange.gate.set()
        assert labels(await ask(batcher, b"b")) == ["b"]

    run(scenario)


def test_a_reply_for_too_few_images_fails_each_of_them_at_once() -> None:
    class Forgetful(MemoryExchange):
        async def ask(self, batch: ClassifyBatch, images: Sequence[bytes]) -> ClassifyReply:
            return await super().ask(batch, images[:1])

    async def scenario(_: MemoryExchange) -> None:
        exchange = Forgetful()
        exchange.gate.set()
        batcher = make(exchange)
        answers = await ask(batcher, b"a", b"b")
        assert [answer.outcome.error for answer in answers] == ["inference_failed"] * 2
        assert answers[0].outcome.detail == "The worker answered for 1 of 2 images."
        assert b'malformed_messages_total{kind="reply"} 1.0' in batcher.metrics.exposition()

    run(scenario)


def test_a_batch_asks_for_the_largest_top_k_and_the_last_deadline_of_its_requests() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        blocker = ask(batcher, b"x")
        await settle()
        few = asyncio.create_task(batcher.classify(CATS, [b"a"], top_k=1, timeout_s=1, request_id="r1"))
        many = asyncio.create_task(batcher.classify(CATS, [b"b"], top_k=9, timeout_s=9, request_id="r2"))
        await settle()
        exchange.gate.set()
        await asyncio.gather(blocker, few, many)
        last = exchange.sent[-1]
        assert (last.top_k, last.request_ids) == (9, ("r1", "r2"))
        assert last.deadline - last.sent_at > 8

    run(scenario)


def test_what_is_costly_waits_apart_and_takes_one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of a capital letter are costly here; however many there are, the others pass."""
    monkeypatch.setattr("service.lane.decoding_cost", lambda data: COSTLY_PIXELS * (2 if data.isupper() else 0))

    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, slots=2)
        costly = ask(batcher, b"d", b"A", b"B", b"C")
        other = ask(batcher, b"x", version=DOGS)
        await settle()
        assert sorted(exchange.contents) == [[b"A"], [b"d"], [b"x"]]
        exchange.gate.set()
        assert labels(await costly) == ["d", "A", "B", "C"]
        assert labels(await other) == ["x"]
        assert exchange.contents[3:] == [[b"B"], [b"C"]]

    run(scenario)


def test_explanations_wait_apart_those_of_many_passes_alone() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, slots=3)
        by_map = ask(batcher, *[b"m"] * 10, version=replace(CATS, explain=Explain(method="cam")))
        hidden = ask(batcher, b"h", b"h", version=replace(CATS, explain=Explain(method="occlusion")))
        other = ask(batcher, b"x", b"x")
        await settle()
        assert exchange.contents == [[b"m"] * 8, [b"x"] * 2]
        assert [batch.explain for batch in exchange.sent] == [Explain(method="cam"), None]
        exchange.gate.set()
        for asked in (by_map, hidden, other):
            await asked
        assert sorted(exchange.contents[2:]) == [[b"h"], [b"h"], [b"m"] * 2]

    run(scenario)


def test_what_is_costly_takes_turns_with_what_waits_for_longer() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, slots=3)
        why = Explain(method="occlusion")
        first = ask(batcher, *[b"a"] * 2, version=replace(CATS, explain=why))
        await settle()
        second = ask(batcher, b"b", version=replace(DOGS, explain=why))
        await settle()
        third = ask(batcher, b"c", version=replace(CATS, explain=why))
        await settle()
        exchange.gate.set()
        for asked in (first, second, third):
            await asked
        assert exchange.contents == [[b"a"], [b"a"], [b"b"], [b"c"]]

    run(scenario)


def test_what_a_request_has_beyond_its_share_waits_as_what_is_costly_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.lane.decoding_cost", lambda _: COSTLY_PIXELS)

    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange, slots=2)
        many = ask(batcher, *[b"a"] * 8)
        await settle()
        assert [len(batch) for batch in exchange.contents] == [4, 2]
        exchange.gate.set()
        assert len(await many) == 8

    run(scenario)


def test_a_batch_whose_worker_fell_silent_is_sent_again_once_and_marked() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        exchange.failures.append(WorkerLost("w1"))
        exchange.gate.set()
        assert labels(await ask(batcher, b"a", b"b")) == ["a", "b"]
        assert [batch.after_death for batch in exchange.sent] == [False, True]
        exchange.failures += [WorkerLost("w1"), WorkerLost("w2")]
        with pytest.raises(NoLiveWorker):
            await ask(batcher, b"a")

    run(scenario)


def test_what_is_stored_on_several_servers_leaves_by_each_of_them_and_keeps_its_turn() -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        blocker = ask(batcher, b"x")
        await settle()
        one, two = (StoredImage(f"key-{server}", 3, 0, server) for server in ("one", "two"))
        others = [ask(batcher, image) for image in (two, b"a", one, b"b", two)]
        await settle()
        exchange.gate.set()
        await blocker
        await until(lambda: len(exchange.sent) == 3)
        # The first in the line decides; what has no place yet goes with it.
        assert [(batch.server, len(batch.images)) for batch in exchange.sent[1:]] == [("two", 4), ("one", 1)]
        for other in others:
            other.cancel()
        await asyncio.wait(others)

    run(scenario)


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_an_image_may_meet_every_server_in_its_last_moment_and_one_that_is_stored_its_own(servers: int) -> None:
    async def scenario(exchange: MemoryExchange) -> None:
        batcher = make(exchange)
        batcher.servers = servers
        exchange.gate.set()
        for image, times in ((b"a", servers), (StoredImage("key", 3, 0, "one"), 1)):
            exchange.sent.clear()
            exchange.failures = [ReplyInterrupted("torn")] * (times + 1)
            with pytest.raises(BrokerUnavailable):
                await ask(batcher, image)
            assert len(exchange.sent) == times + 1
            exchange.failures = [ReplyInterrupted("torn")] * times
            if isinstance(image, bytes):
                (answered,) = await ask(batcher, image)
                assert answered.outcome.classes[0].label == "a"
        # Whatever ends workers is not tried on one after the other.
        exchange.sent.clear()
        exchange.failures = [WorkerLost("gone")] * 2
        with pytest.raises(NoLiveWorker):
            await ask(batcher, b"a")
        assert len(exchange.sent) == 2

    run(scenario)
