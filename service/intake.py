"""Images while the body of their request arrives: small ones in memory, large ones on to the transit Redis.

So a request holds at most `PIECE_BYTES` and what one read of its socket brings, however large its images are.
Nothing is decoded here.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

from models.cost import decoding_cost
from models.formats import BEGIN_BYTES, image_format, no_image
from service.errors import Problem
from service.exchange import ImageContent, StoredImage
from service.slots import share
from storage.keys import Key
from workers.contract.queues import IMAGE_PREFIX
from workers.transit import place

# Most photographs as classifiers like them are smaller, and travel with their batch in one round trip. Less than
# the 256 KiB that one read of a socket brings: of a large one, each read is passed on by itself and as it came.
PIECE_BYTES = 240 * 2**10


@dataclass(frozen=True)
class ImageLimits:
    max_images: int
    max_image_bytes: int


@dataclass(frozen=True)
class SentImage:
    """One image of a request, or why it is not one. `name` is the client's, if it gave one."""

    name: str | None
    content: ImageContent
    problem: Problem | None = None


class ImageStore(Protocol):
    """Where large images lie until a worker takes them; those of a request on the same of several servers."""

    def servers(self) -> Sequence[str]:
        """The names of those that can be used now, one at least."""
        ...

    async def append(self, server: str, key: str, data: bytes | bytearray, size: int, keep: Sequence[str]) -> None:
        """Add to an image, which has `size` bytes then; none of `keep` expires. Raises BrokerUnavailable."""
        ...

    async def drop(self, server: str, keys: Sequence[str]) -> None:
        """Forget images, as far as they are there."""
        ...


@dataclass
class Intake:
    """The bodies of all requests together hold at most `max_bytes`, and those of one key its share of that.

    A body alone, or the only one of its key where there is room, may have any permitted size. Where large images
    go to `servers` servers, `max_bytes` is what this gateway holds in memory and on any one of them together.
    """

    store: ImageStore
    limits: ImageLimits
    max_bytes: int
    servers: int = 1
    held: int = field(default=0, init=False)
    _held_by: Counter[str] = field(default_factory=Counter, init=False)
    _held_on: Counter[str] = field(default_factory=Counter, init=False)

    @asynccontextmanager
    async def reception(self, key: Key | None) -> AsyncIterator["Reception"]:
        """For one request, from its body's first byte to its answer."""
        reception = Reception(self, key.prefix if key else "")
        try:
            yield reception
        finally:
            try:
                if reception.keys:
                    await self.store.drop(reception.server, reception.keys)
            finally:
                self._add(reception.owner, -reception.held)
                self._add_on(reception.server, -reception.stored)

    def hold(self, reception: "Reception", size: int) -> None:
        """Count bytes of the request's body. Raises Problem 429 when they are too many."""
        owner, of_owner = reception.owner, self._held_by[reception.owner]
        held = self._held_with(reception.server)
        if held + size > self.max_bytes and reception.held < held:
            raise _too_many(f"The images being received and waiting have {held} bytes")
        if owner and of_owner + size > share(self.max_bytes * self.servers) and reception.held < of_owner:
            raise _too_many(f"The images of this key that are being received and waiting have {of_owner} bytes")
        reception.held += size
        self._add(owner, size)

    def server_for(self, reception: "Reception") -> str:
        """By the request's name, among the servers on which there is room where there is on any."""
        servers = self.store.servers()
        if len(servers) == 1:
            return servers[0]
        roomy = [server for server in servers if self._held_with(server) < self.max_bytes]
        return place(reception.stem, roomy or servers)

    def store_on(self, reception: "Reception", size: int) -> None:
        """Count bytes of the request that go from memory to its server."""
        reception.stored += size
        self._add_on(reception.server, size)

    def _held_with(self, server: str) -> int:
        """In memory and on that server; by no name, on the one that has least."""
        if self.servers == 1:
            return self.held
        on_all = self._held_on.total()
        on_it = self._held_on[server] if server else self._least()
        return self.held - on_all + on_it

    def _least(self) -> int:
        return min(self._held_on.values()) if len(self._held_on) == self.servers else 0

    def _add_on(self, server: str, size: int) -> None:
        if size:
            self._held_on[server] += size
            if not self._held_on[server]:
                del self._held_on[server]

    def _add(self, owner: str, size: int) -> None:
        self.held += size
        self._held_by[owner] += size
        if not self._held_by[owner]:
            del self._held_by[owner]


@dataclass
class Reception:
    """The images of one request. `digest`, where it is set, gets the body as it was sent.

    `server` has those of its images that are passed on, `stored` bytes by now; empty before there are any.
    """

    intake: Intake
    owner: str
    digest: "hashlib._Hash | None" = None
    keys: list[str] = field(default_factory=list, init=False)
    held: int = field(default=0, init=False)
    server: str = field(default="", init=False)
    stored: int = field(default=0, init=False)
    stem: str = field(default_factory=lambda: f"{IMAGE_PREFIX}{uuid4().hex}:", init=False)

    @property
    def limits(self) -> ImageLimits:
        return self.intake.limits

    def image(self, name: str | None = None, *, prepared: bool = False) -> "IncomingImage":
        """An image to come; where it is `prepared`, pixels as a `ClassifyBatch` has them."""
        return IncomingImage(self, name, prepared)

    def new_key(self) -> str:
        self.server = self.server or self.intake.server_for(self)
        self.keys.append(f"{self.stem}{len(self.keys)}")
        return self.keys[-1]

    async def store(self, key: str, data: bytes | bytearray, size: int) -> None:
        """Add to an image, which has `size` bytes then. Raises BrokerUnavailable."""
        self.intake.store_on(self, len(data))
        await self.intake.store.append(self.server, key, data, size, self.keys)

    def hold(self, size: int) -> None:
        """Count bytes of the body. Raises Problem 429 when those of all, or of its key, are too many."""
        self.intake.hold(self, size)

    def answered(self, images: Sequence[SentImage]) -> None:
        """A worker has answered for these, and with its answer it has removed them."""
        gone = {image.content.key for image in images if isinstance(image.content, StoredImage)}
        self.keys = [key for key in self.keys if key not in gone]


class IncomingImage:
    """One image on its way in. Of what is no image or too large only the size is kept."""

    def __init__(self, reception: Reception, name: str | None, prepared: bool = False) -> None:
        self.reception = reception
        self.name = name
        self.size = 0
        self._key: str | None = None
        self._cost = 0
        self._gathered = bytearray()
        self._prepared = self._is_begun = prepared
        self._problem: Problem | None = None

    async def write(self, data: bytes) -> None:
        """The next bytes. Raises Problem 429, BrokerUnavailable."""
        self.size += len(data)
        if self._problem:
            return
        if self.size > self.reception.limits.max_image_bytes:
            self._refuse(Problem(413, "too_large", ""))
            return
        self.reception.hold(len(data))
        piece: bytes | bytearray = data
        if self._gathered or len(data) <= PIECE_BYTES:
            self._gathered += data
            piece = self._gathered
        if not self._is_begun and self.size >= BEGIN_BYTES:
            self._check_begin(piece)
        if len(piece) > PIECE_BYTES and not self._problem:
            await self._pass_on(piece)

    async def finish(self) -> SentImage:
        """The whole image. Raises BrokerUnavailable."""
        if not self._is_begun and not self._problem:
            self._check_begin(self._gathered)
        if self._problem:
            if self._problem.code == "too_large":
                most = self.reception.limits.max_image_bytes
                self._problem.detail = f"The image has {self.size} bytes; at most {most} are taken."
            return SentImage(self.name, b"", self._problem)
        if self._key is None:
            return SentImage(self.name, bytes(self._gathered))
        if self._gathered:
            await self._pass_on(self._gathered)
        return SentImage(self.name, StoredImage(self._key, self.size, self._cost, self.reception.server))

    def _check_begin(self, content: bytes | bytearray) -> None:
        self._is_begun = True
        begin = bytes(content[:BEGIN_BYTES])
        if image_format(begin) is None:
            reason = no_image(begin)
            self._refuse(Problem(400, "not_an_image", f"{reason[0].upper()}{reason[1:]}."))

    def _refuse(self, problem: Problem) -> None:
        self._problem = problem
        self._gathered.clear()

    async def _pass_on(self, piece: bytes | bytearray) -> None:
        # Not copied: with many on their way, while a few threads send, copies are half of what a gateway holds.
        self._gathered = bytearray()
        if self._key is None:
            self._key = self.reception.new_key()
            self._cost = 0 if self._prepared else decoding_cost(bytes(piece))
        await self.reception.store(self._key, piece, self.size)


def _too_many(what: str) -> Problem:
    return Problem(429, "too_many_waiting", f"{what}; try again in a moment.", {"Retry-After": "2"})
