"""Images and models that ended a worker: who is suspected, who is convicted. It lies in the transit Redis.

What was in hand when a worker died is suspected. A suspect is tried in a process of its own, whose end says how it
ended: docs/decisions/0013-what-ends-its-worker.md.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
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

    transit: Redis
    worker: str

    @property
    def hand(self) -> str:
        return HAND_PREFIX + self.worker

    def take(self, batch: ClassifyBatch) -> Fetched:
        """Fetch the batch's images and note that they are in hand, in one round trip."""
        noted = json.dumps(encode(InHand(batch.images, batch.artifact)))
        with self.transit.pipeline(transaction=False) as pipe:
            pipe.zcard(SUSPECTS_KEY)
            pipe.hset(self.hand, batch.batch, noted)
            pipe.expire(self.hand, HAND_S)
            if batch.images:
                pipe.mget(batch.images)
            suspects, in_hand, _, *fetched = pipe.execute(raise_on_error=False)
        self._replace_wrong({SUSPECTS_KEY: suspects, self.hand: in_hand})
        for answer in fetched:
            if isinstance(answer, Exception):
                raise answer
        stored = fetched[0] if fetched else []
        return Fetched([data if isinstance(data, bytes) else None for data in stored], bool(suspects))

    def suspicions(self, images: Iterable[bytes]) -> list[Suspicion | None]:
        """What there is against each of the images."""
        subjects = [image(content) for content in images]
        if not subjects:
            return []
        with self.transit.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(SUSPECTS_KEY, "-inf", time.time())
            pipe.mget([SUSPECT_PREFIX + subject for subject in subjects])
            found = pipe.execute()[1]
        return [_read(Suspicion, value) for value in found]

    def convict(self, subject: str, reason: str) -> None:
        """It ended a process: nobody is to try it again for a week. Raises nothing."""
        log.error("quarantine.convicted", subject=subject, reason=reason)
        try:
            self._write(subject, Suspicion(time.time(), True, reason), CONVICTED_S)
        except RedisError as error:
            log.warning("quarantine.not_kept", subject=subject, reason=str(error))

    def clear(self, subject: str) -> None:
        """It was tried and ended nothing. Raises nothing."""
        try:
            with self.transit.pipeline(transaction=False) as pipe:
                pipe.delete(SUSPECT_PREFIX + subject, DEATHS_PREFIX + subject)
                pipe.zrem(SUSPECTS_KEY, subject)
                pipe.execute()
        except RedisError as error:
            log.warning("quarantine.not_cleared", subject=subject, reason=str(error))

    def is_model_suspected(self, artifact: str) -> bool:
        """Whether it is to be tried before it is loaded. Raises ModelQuarantined where it was; no RedisError."""
        subject = model(artifact)
        try:
            with self.transit.pipeline(transaction=False) as pipe:
                pipe.scard(DEATHS_PREFIX + subject)
                pipe.get(SUSPECT_PREFIX + subject)
                deaths, found = pipe.execute()
        except RedisError:
            # Whoever cannot reach Redis has nothing to load a model for, but the job that he began.
            return False
        suspicion = _read(Suspicion, found)
        if suspicion and suspicion.convicted:
            raise ModelQuarantined(suspicion.reason)
        return bool(deaths >= DEATHS_OF_A_MODEL)

    def suspect_the_hands_of_the_dead(self) -> None:
        """To be called before this worker takes anything in hand: suspect all that dead workers have left behind.

        Raises nothing: a worker that cannot reach Redis cannot be given anything either.
        """
        try:
            for number, key in enumerate(self.transit.scan_iter(match=HAND_PREFIX + "*", count=500)):
                if number == MOST_HANDS:
                    return
                name = key.removeprefix(HAND_PREFIX.encode())
                ((_, listeners),) = self.transit.pubsub_numsub(ALIVE_PREFIX.encode() + name)
                if not listeners:
                    self._suspect_hand(key, name)
        except RedisError as error:
            log.warning("quarantine.hands_not_seen", reason=str(error))

    def _suspect_hand(self, key: bytes, name: bytes) -> None:
        try:
            noted: Mapping[bytes, bytes] = self.transit.hgetall(key)  # type: ignore[assignment]
        except ResponseError:
            self.transit.delete(key)
            return
        left = [hand for value in list(noted.values())[:MOST_IN_HAND] if (hand := _read(InHand, value))]
        for artifact in {hand.artifact for hand in left}:
            with self.transit.pipeline(transaction=False) as pipe:
                pipe.sadd(DEATHS_PREFIX + model(artifact), name)
                pipe.expire(DEATHS_PREFIX + model(artifact), SUSPECTED_S)
                pipe.execute()
        images = 0
        for image_key in (image_key for hand in left for image_key in hand.images):
            content = self.transit.get(image_key)
            if isinstance(content, bytes):
                images += 1
                self._write(image(content), Suspicion(time.time()), SUSPECTED_S)
        log.error("worker.died", worker=name.decode(errors="replace"), batches=len(left), images=images)
        # What a gateway learns from it, it has learned by now or in this moment.
        self.transit.expire(key, 5)

    def _write(self, subject: str, suspicion: Suspicion, seconds: float) -> None:
        """A suspicion does not stand in for a conviction."""
        with self.transit.pipeline(transaction=False) as pipe:
            written = json.dumps(encode(suspicion))
            pipe.set(SUSPECT_PREFIX + subject, written, ex=int(seconds), nx=not suspicion.convicted)
            pipe.zadd(SUSPECTS_KEY, {subject: time.time() + seconds})
            pipe.execute()

    def _replace_wrong(self, answers: Mapping[str, Any]) -> None:
        """Somebody else's value of another type is in the way of ours."""
        for key, answer in answers.items():
            if isinstance(answer, ResponseError):
                log.error("transit.foreign_value", key=key, reason=str(answer))
                self.transit.delete(key)
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
