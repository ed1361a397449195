"""Images and models that ended a worker: who is suspected, who is convicted. It lies in the transit Redis.

What was in hand when a worker died is suspected. A suspect is tried in a process of its own, whose end says how
it ended: docs/decisions/0013-what-ends-its-worker.md. Of several transit servers each has all suspects, which are
few, so that the round trip that fetches a batch tells of them; what a worker has in hand is noted beside the
batch.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import structlog
from redis import Redis, RedisError, ResponseError

from models.errors import ModelQuarantined
from workers.contract.messages import ClassifyBatch, InHand, InvalidMessage, Suspicion, decode, encode
from workers.contract.queues import (
    ALIVE_PREFIX,
    DEATHS_PREFIX,
    HAND_PREFIX,
    SUSPECT_PREFIX,
    SUSPECTS_KEY,
)
from workers.transit import Transit

DAY_S = 24 * 3600
SUSPECTED_S = DAY_S
CONVICTED_S = 7 * DAY_S
# Beyond it the images' bytes are gone, too.
HAND_S = 120
# A model is in hand with every image; only one whose load ends processes is in hand at every death.
DEATHS_OF_A_MODEL = 2
MOST_IN_HAND = 64
MOST_HANDS = 256

log = structlog.get_logger()
Kind = TypeVar("Kind")


def image(content: bytes) -> str:
    """An image as a subject of suspicion."""
    return f"image:{hashlib.sha256(content).hexdigest()}"


def model(artifact: str) -> str:
    """A version's files as a subject of suspicion."""
    return f"model:{artifact}"


class Fetched(NamedTuple):
    """The images of a batch in its order, None for one that is gone; and whether anybody is suspected at all."""

    images: Sequence[bytes | None]
    are_there_suspects: bool


@dataclass
class Quarantine:
    """Of one worker. Every method raises RedisError, but those that say that they do not."""

    transit: Transit
    worker: str

    @property
    def hand(self) -> str:
        return HAND_PREFIX + self.worker

    def take(self, batch: ClassifyBatch) -> Fetched:
        """Fetch the batch's images and note that they are in hand, in one round trip."""
        noted = json.dumps(encode(InHand(batch.images, batch.artifact)))
        with self.transit.at(batch.server) as client:
            with client.pipeline(transaction=False) as pipe:
                pipe.zcard(SUSPECTS_KEY)
                pipe.hset(self.hand, batch.batch, noted)
                pipe.expire(self.hand, HAND_S)
                if batch.images:
                    pipe.mget(batch.images)
                suspects, in_hand, _, *fetched = pipe.execute(raise_on_error=False)
            _replace_wrong(client, {SUSPECTS_KEY: suspects, self.hand: in_hand})
        for answer in fetched:
            if isinstance(answer, Exception):
                raise answer
        stored = fetched[0] if fetched else []
        return Fetched([data if isinstance(data, bytes) else None for data in stored], bool(suspects))

    def suspicions(self, images: Iterable[bytes], server: str) -> list[Suspicion | None]:
        """What there is against each of the images, as that server knows it."""
        subjects = [image(content) for content in images]
        if not subjects:
            return []
        with self.transit.at(server) as client, client.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(SUSPECTS_KEY, "-inf", time.time())
            pipe.mget([SUSPECT_PREFIX + subject for subject in subjects])
            found = pipe.execute()[1]
        return [_read(Suspicion, value) for value in found]

    def convict(self, subject: str, reason: str) -> None:
        """It ended a process: nobody is to try it again for a week. Raises nothing."""
        log.error("quarantine.convicted", subject=subject, reason=reason)
        self._write(subject, Suspicion(time.time(), True, reason), CONVICTED_S)

    def clear(self, subject: str) -> None:
        """It was tried and ended nothing. Raises nothing."""

        def clear(client: Redis) -> None:
            with client.pipeline(transaction=False) as pipe:
                pipe.delete(SUSPECT_PREFIX + subject, DEATHS_PREFIX + subject)
                pipe.zrem(SUSPECTS_KEY, subject)
                pipe.execute()

        self._on_each("quarantine.not_cleared", subject, clear)

    def is_model_suspected(self, artifact: str) -> bool:
        """Whether it is to be tried before it is loaded. Raises ModelQuarantined where it was; no RedisError."""
        subject = model(artifact)
        most_deaths = 0
        for name in self.transit.names:
            try:
                with self.transit.at(name) as client, client.pipeline(transaction=False) as pipe:
                    pipe.scard(DEATHS_PREFIX + subject)
                    pipe.get(SUSPECT_PREFIX + subject)
                    deaths, found = pipe.execute()
            except RedisError:
                # Whoever reaches no Redis has nothing to load a model for, but the job that he began.
                continue
            suspicion = _read(Suspicion, found)
            if suspicion and suspicion.convicted:
                raise ModelQuarantined(suspicion.reason)
            most_deaths = max(most_deaths, deaths)
        return most_deaths >= DEATHS_OF_A_MODEL

    def suspect_the_hands_of_the_dead(self) -> None:
        """To be called before this worker takes anything in hand: suspect all that dead workers have left behind.

        Raises nothing: a worker that cannot reach Redis cannot be given anything either.
        """
        for name in self.transit.names:
            try:
                with self.transit.at(name) as client:
                    self._suspect_hands_on(client)
            except RedisError as error:
                log.warning("quarantine.hands_not_seen", reason=str(error))

    def _suspect_hands_on(self, client: Redis) -> None:
        for number, key in enumerate(client.scan_iter(match=HAND_PREFIX + "*", count=500)):
            if number == MOST_HANDS:
                return
            name = key.removeprefix(HAND_PREFIX.encode())
            ((_, listeners),) = client.pubsub_numsub(ALIVE_PREFIX.encode() + name)
            if not listeners:
                self._suspect_hand(client, key, name)

    def _suspect_hand(self, client: Redis, key: bytes, name: bytes) -> None:
        try:
            noted: Mapping[bytes, bytes] = client.hgetall(key)  # type: ignore[assignment]
        except ResponseError:
            client.delete(key)
            return
        left = [hand for value in list(noted.values())[:MOST_IN_HAND] if (hand := _read(InHand, value))]
        for artifact in {hand.artifact for hand in left}:
            self._count_death(model(artifact), name)
        images = 0
        for image_key in (image_key for hand in left for image_key in hand.images):
            content = client.get(image_key)
            if isinstance(content, bytes):
                images += 1
                self._write(image(content), Suspicion(time.time()), SUSPECTED_S)
        log.error("worker.died", worker=name.decode(errors="replace"), batches=len(left), images=images)
        # What a gateway learns from it, it has learned by now or in this moment.
        client.expire(key, 5)

    def _count_death(self, subject: str, worker: bytes) -> None:
        def count(client: Redis) -> None:
            with client.pipeline(transaction=False) as pipe:
                pipe.sadd(DEATHS_PREFIX + subject, worker)
                pipe.expire(DEATHS_PREFIX + subject, SUSPECTED_S)
                pipe.execute()

        self._on_each("quarantine.not_kept", subject, count)

    def _write(self, subject: str, suspicion: Suspicion, seconds: float) -> None:
        """A suspicion does not stand in for a conviction."""
        written = json.dumps(encode(suspicion))

        def write(client: Redis) -> None:
            with client.pipeline(transaction=False) as pipe:
                pipe.set(SUSPECT_PREFIX + subject, written, ex=int(seconds), nx=not suspicion.convicted)
                pipe.zadd(SUSPECTS_KEY, {subject: time.time() + seconds})
                pipe.execute()

        self._on_each("quarantine.not_kept", subject, write)

    def _on_each(self, failure: str, subject: str, do: Callable[[Redis], None]) -> None:
        """On every transit server; one that is away knows less then, and that costs a worker more at the most."""
        for name in self.transit.names:
            try:
                with self.transit.at(name) as client:
                    do(client)
            except RedisError as error:
                log.warning(failure, subject=subject, reason=str(error))


def _replace_wrong(client: Redis, answers: Mapping[str, Any]) -> None:
    """Somebody else's value of another type is in the way of ours."""
    for key, answer in answers.items():
        if isinstance(answer, ResponseError):
            log.error("transit.foreign_value", key=key, reason=str(answer))
            client.delete(key)
        elif isinstance(answer, Exception):
            raise answer


def _read(kind: type[Kind], value: Any) -> Kind | None:
    if not isinstance(value, bytes):
        return None
    try:
        return decode(kind, value)
    except InvalidMessage as error:
        log.error("quarantine.malformed", reason=str(error))
        return None
