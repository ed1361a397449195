"""Images of one request through the batcher, whatever protocol they came by, and what its client is told."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from models.artifact import FLOAT32, served_precisions
from models.conformal import ConformalScores
from models.errors import CoverageUnavailable
from service.batcher import DeadlineExceeded, NoLiveWorker, TooManyWaiting, VersionKey
from service.errors import Problem
from service.exchange import ImageContent
from service.lane import NO_PRIORITY, Answer
from service.parts import Parts
from storage.keys import Key
from storage.registry import Version


@dataclass(frozen=True)
class Caller:
    """Whose images they are, under which request's id, and where in a trace that stands."""

    key: Key | None
    request_id: str
    traceparent: str | None = None


async def classify(
    parts: Parts,
    caller: Caller,
    version: VersionKey,
    images: Sequence[ImageContent],
    *,
    top_k: int,
    timeout_s: float | None = None,
    priority: int = NO_PRIORITY,
) -> list[Answer]:
    """The answers to the images in their order; each may be an error of its own.

    Raises Problem: 429 where too many wait or are in flight, 503 without a worker, 504 after `timeout_s`, which is
    at most the gateway's; and BrokerUnavailable.
    """
    started = time.perf_counter()
    most_s = parts.settings.classify_timeout_s
    async with parts.limiter.in_flight(caller.key, len(images)):
        try:
            answers = await parts.batcher.classify(
                version,
                images,
                top_k=top_k,
                timeout_s=most_s if timeout_s is None else min(timeout_s, most_s),
                request_id=caller.request_id,
                traceparent=caller.traceparent,
                priority=priority,
            )
        except TooManyWaiting as error:
            headers = {"Retry-After": str(error.retry_after_s)}
            raise Problem(429, "too_many_waiting", str(error), headers) from error
        except NoLiveWorker as error:
            detail = f"{error} Start one, or see /readyz; this request can be repeated."
            raise Problem(503, "no_worker", detail, {"Retry-After": "2"}) from error
        except DeadlineExceeded as error:
            parts.statistics.record_failure(version, time.perf_counter() - started)
            raise Problem(504, "deadline_exceeded", str(error)) from error
    parts.statistics.record_answers(version, answers, time.perf_counter() - started)
    unknown = sum(1 for answer in answers if (judged := answer.outcome.unknown) and judged.is_unknown)
    parts.metrics.observe_images(version.model, len(images), unknown)
    return answers


def asked_precision(version: Version, precision: str) -> str:
    """Empty where the worker is to choose. Raises Problem where the version has no such variant."""
    if precision == "auto":
        return ""
    served = served_precisions(version.manifest.get("variants"))
    if precision not in served:
        tried = (version.manifest.get("variants") or {}).get(precision, {})
        why = f"its gate refused that: {tried['reason']}" if tried.get("reason") else "that was not tried"
        raise Problem(
            409,
            "precision_unavailable",
            f"Version {version.number} of {version.model!r} can be asked for in {', '.join(served)}; not in "
            f"{precision}, for {why}.",
        )
    return precision


def asked_coverage(version: Version, coverage: float | None, precision: str) -> str:
    """What the version is asked for in where sets of classes are wanted: their scores are those of float32.

    `precision` is what the request says. Raises Problem where the version has no such sets.
    """
    if coverage is None:
        return asked_precision(version, precision)
    try:
        ConformalScores.from_findings(version.manifest.get("findings")).threshold(coverage)
        if precision not in ("auto", FLOAT32):
            reason = f"its sets are calibrated in {FLOAT32}; leave the precision out, or ask for {FLOAT32}"
            raise CoverageUnavailable(reason)
    except CoverageUnavailable as error:
        told = {"images": error.images, "needed": error.needed, "highest_coverage": error.highest_coverage}
        detail = f"Version {version.number} of {version.model!r} cannot be asked for a coverage: {error}."
        raise Problem(409, "coverage_unavailable", detail, extra=told) from error
    return FLOAT32
