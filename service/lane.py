"""The images that wait for one version, and which of them leave together. Knows no queue and no worker."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from models.cost import COSTLY_PIXELS, decoding_cost
from models.explanation.method import OCCLUSION
from service.exchange import ImageContent, StoredImage
from workers.contract.messages import BatchTimings, Explain, ImageOutcome

# Pixels, as `models.cost` counts them.
MOST_OF_A_BATCH = 4 * COSTLY_PIXELS
MOST_OF_A_COSTLY_BATCH = 2 * COSTLY_PIXELS
# Of explanations that one pass of the network is enough for, eight go in a message; of others one.
EXPLAINED_PIXELS = MOST_OF_A_COSTLY_BATCH // 8
# 1 is the highest, and whoever asks for none comes after all that do.
NO_PRIORITY = 2**32


def cost_of_explaining(explain: Explain | None) -> int:
    """In pixels, beside what an image's decoding costs."""
    if explain is None:
        return 0
    return MOST_OF_A_COSTLY_BATCH if explain.method == OCCLUSION else EXPLAINED_PIXELS


@dataclass(frozen=True)
class Answer:
    """One image's outcome and how it came about; times in milliseconds."""

    outcome: ImageOutcome
    provider: str
    precision: str
    timings: BatchTimings
    waited_ms: float
    batch_size: int

    def told_timings(self) -> dict[str, float]:
        """As answers have them: of the image in the gateway, of its batch in the queue and the worker."""
        timings = self.timings
        return {
            "wait_ms": round(self.waited_ms, 2),
            "queue_ms": round(timings.queue_ms, 2),
            "decode_ms": round(timings.decode_ms, 2),
            "inference_ms": round(timings.inference_ms, 2),
            "batch_size": self.batch_size,
        }


@dataclass(eq=False)
class PendingImage:
    """An image on its way. Whoever waits for `answered` may cancel it; it is then skipped when a batch leaves.

    One that is `prepared` costs no decoding, and one that is explained `further` pixels.
    """

    content: ImageContent
    top_k: int
    deadline: float
    request_id: str
    traceparent: str | None
    answered: asyncio.Future[Answer]
    since: float
    priority: int = NO_PRIORITY
    prepared: bool = False
    further: int = 0
    sendings: int = 0
    after_death: bool = False
    cost: int = field(init=False)

    def __post_init__(self) -> None:
        content = self.content
        if self.prepared:
            self.cost = 0
        else:
            self.cost = content.cost if isinstance(content, StoredImage) else decoding_cost(content)
        self.cost += self.further

    @property
    def server(self) -> str:
        """The transit server that has it already; empty where any will do."""
        return self.content.server if isinstance(self.content, StoredImage) else ""

    def fail(self, error: Exception) -> None:
        """Does nothing where it is answered."""
        if not self.answered.done():
            self.answered.set_exception(error)


@dataclass
class Lane:
    """What waits for one version, and how many messages and images of it are under way.

    What is `costly` waits apart from the rest, with one message under way for all versions together: however much
    of it there is, the others pass.
    """

    costly: bool
    waiting: deque[PendingImage] = field(default_factory=deque)
    in_flight: int = 0
    images_in_flight: int = 0

    def add(self, image: PendingImage) -> None:
        """Behind those of its priority and before those that have less."""
        at = len(self.waiting)
        while at and self.waiting[at - 1].priority > image.priority:
            at -= 1
        self.waiting.insert(at, image)

    def may_send(self, slots: int) -> bool:
        """Whether one more message may leave, where the workers take so many at once.

        The last slot has the next message ready for a worker, and waits until that is as large as a share of what
        is under way: an image or two that leave at once make the batch after them larger, and those in it late.
        """
        if self.in_flight + 1 < slots or not self.in_flight:
            return True
        return self.in_flight < slots and len(self.waiting) * slots >= self.images_in_flight

    def next_batch(self, most_images: int, most_bytes: int) -> list[PendingImage]:
        """From the front. An image on another transit server than an earlier one keeps its place."""
        batch: list[PendingImage] = []
        elsewhere: list[PendingImage] = []
        server = ""
        size = cost = 0
        most_cost = MOST_OF_A_COSTLY_BATCH if self.costly else MOST_OF_A_BATCH
        while self.waiting and len(batch) < most_images:
            image = self.waiting[0]
            if not image.answered.done():
                if image.server and server and image.server != server:
                    elsewhere.append(self.waiting.popleft())
                    continue
                size += len(image.content)
                cost += image.cost
                if batch and (size > most_bytes or cost > most_cost):
                    break
                server = server or image.server
                batch.append(image)
            self.waiting.popleft()
        self.waiting.extendleft(reversed(elsewhere))
        return batch
