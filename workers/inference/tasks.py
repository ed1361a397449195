"""Celery's side of inference: messages in, one reply out. What happens to a batch is the engine's business."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from celery import Celery
from celery.exceptions import Reject
from celery.signals import worker_shutting_down
from redis import ResponseError
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from workers.contract.messages import (
    BatchTimings,
    ClassifyBatch,
    ClassifyReply,
    ImageOutcome,
    RunJob,
    read_message,
)
from workers.contract.queues import TaskName
from workers.inference.answers import Asked
from workers.inference.engine import BatchResult, DeadlinePassed, Engine, quarantined
from workers.inference.explain import explain
from workers.inference.quarantine import Quarantine, image
from workers.jobs.failure import failure_of
from workers.traces import Attributes, Span, Tracer
from workers.transit import ABSENT, Transit

if TYPE_CHECKING:
    # Brings SQLAlchemy, which whoever only classifies images does without.
    from workers.inference.job_runner import InferenceJobs

REPLY_TTL_S = 60
LOST = ImageOutcome(
    error="image_lost", detail="The image's bytes were gone before a worker read them; send it again."
)
log = structlog.get_logger()


def register_batches(
    app: Celery, engine: Engine, quarantine: Quarantine, worker: str, tracer: Tracer | None = None
) -> Callable[[Any], None]:
    """The task that answers `ClassifyBatch` messages from the images that lie in the transit Redis."""

    @app.task(name=TaskName.CLASSIFY_BATCH.value, ignore_result=True, shared=False)
    def classify_batch(payload: Any) -> None:
        batch = read_message(ClassifyBatch, payload)
        if batch is None:
            return
        if batch.deadline < time.time():
            # A redelivered or overtaken message: its clients have their answer, an error, already.
            log.info("batch.expired", batch=batch.batch, late_s=round(time.time() - batch.deadline, 3))
            return
        span = _span(tracer, batch, worker) if tracer else None
        reply = None
        try:
            reply = answer(engine, quarantine, batch, worker, span)
        except DeadlinePassed:
            log.info("batch.expired", batch=batch.batch)
        send_reply(quarantine, batch, reply)
        if span:
            span.end(error=reply.error if reply else "expired")

    answer_batch: Callable[[Any], None] = classify_batch.run
    return answer_batch


def register_jobs(app: Celery, jobs: "InferenceJobs") -> None:
    """Run the jobs that `RunJob` messages name, and give them back when the worker shuts down."""

    @app.task(name=TaskName.RUN_BULK_JOB.value, ignore_result=True, shared=False)
    def run_job(payload: Any) -> None:
        if message := read_message(RunJob, payload):
            jobs.run(message.job)
            if jobs.is_stopping:
                # Given back or not begun: another worker is to have it at once. One that has ended it will let be.
                raise Reject(requeue=True)

    # Celery's warm shutdown waits for the task, which may have hours to go.
    worker_shutting_down.connect(lambda **_: jobs.stop(), weak=False)


def answer(
    engine: Engine, quarantine: Quarantine, batch: ClassifyBatch, worker: str, span: Span | None = None
) -> ClassifyReply:
    """The reply to a batch; whatever fails is in the reply, for somebody waits for it.

    Raises DeadlinePassed when nobody does any more.
    """
    taken = time.time()
    try:
        stored, are_there_suspects = quarantine.take(batch)
        if None in stored:
            # With one server any name is taken for its own; that it was another one shows now.
            quarantine.transit.require_known(batch.server)
        fetched = time.time()
        known, present = _sorted_out(quarantine, batch.server, stored, are_there_suspects)
        images = [data for data, _ in present]
        suspects = [n for n, (_, suspected) in enumerate(present) if suspected or batch.after_death]
        if batch.explain:
            result = explain(
                engine,
                batch.artifact,
                images,
                batch.explain,
                precision=batch.precision,
                deadline=batch.deadline,
                suspects=suspects,
            )
        else:
            result = engine.classify(
                batch.artifact,
                images,
                Asked(batch.top_k, batch.outputs, batch.coverage, batch.similar, is_traffic=not batch.similar),
                precision=batch.precision,
                prepared=batch.prepared,
                deadline=batch.deadline,
                suspects=suspects,
            )
        _conclude(quarantine, present, result)
    except DeadlinePassed:
        raise
    except Exception as error:
        log.exception("batch.failed", batch=batch.batch, model=batch.model, version=batch.version)
        failure = failure_of(error)
        return ClassifyReply(batch.batch, worker, error=failure.code, detail=failure.detail)
    timings = BatchTimings(
        queue_ms=(taken - batch.sent_at) * 1e3,
        fetch_ms=(fetched - taken) * 1e3,
        decode_ms=result.decode_ms,
        inference_ms=result.inference_ms,
    )
    if span:
        _trace_stages(span, taken, fetched, result)
    failed = [outcome.detail for outcome in result.outcomes if outcome.error]
    level = log.info if failed else log.debug
    level(
        "batch.classified",
        batch=batch.batch,
        model=batch.model,
        version=batch.version,
        images=len(stored),
        failed=failed,
        request_ids=batch.request_ids,
    )
    outcomes = iter(result.outcomes)
    return ClassifyReply(
        batch.batch,
        worker,
        result.provider,
        tuple(outcome or next(outcomes) for outcome in known),
        timings,
        precision=result.precision,
        sketch=result.sketch,
    )


def _sorted_out(
    quarantine: Quarantine, server: str, stored: Sequence[bytes | None], are_there_suspects: bool
) -> tuple[list[ImageOutcome | None], list[tuple[bytes, bool]]]:
    """For each image the outcome that is known beforehand; and those without, each with whether it is suspected.

    Without any suspect nothing is asked and nothing hashed.
    """
    images = [data for data in stored if data is not None]
    suspicions = quarantine.suspicions(images, server) if are_there_suspects else [None] * len(images)
    against = iter(suspicions)
    known: list[ImageOutcome | None] = []
    present: list[tuple[bytes, bool]] = []
    for data in stored:
        if data is None:
            known.append(LOST)
        elif (suspicion := next(against)) and suspicion.convicted:
            known.append(ImageOutcome(error="image_quarantined", detail=quarantined(suspicion.reason)))
        else:
            known.append(None)
            present.append((data, suspicion is not None))
    return known, present


def _conclude(quarantine: Quarantine, present: Sequence[tuple[bytes, bool]], result: BatchResult) -> None:
    """What was tried is cleared or convicted."""
    for place, (data, suspected) in enumerate(present):
        if place in result.ended:
            quarantine.convict(image(data), result.ended[place])
        elif suspected:
            quarantine.clear(image(data))


def send_reply(quarantine: Quarantine, batch: ClassifyBatch, reply: ClassifyReply | None) -> None:
    """Push the reply and free the images, in one round trip; waits out a short absence of Redis.

    Where there are several transit servers and the batch's is away, the reply goes by another one: a gateway
    listens on all of them.
    """
    transit = quarantine.transit
    # A reply has hundreds of small parts: with the standard library it would take as long as Redis does.
    payload = orjson.dumps(reply) if reply else None

    def send() -> None:
        with transit.at(batch.server) as client, client.pipeline(transaction=False) as pipe:
            if payload:
                pipe.rpush(batch.reply_to, payload)
                pipe.expire(batch.reply_to, REPLY_TTL_S)
            pipe.hdel(quarantine.hand, batch.batch)
            if batch.images:
                pipe.unlink(*batch.images)
            # One value of another type, which somebody wrote, is no reason to keep the rest.
            for answered in pipe.execute(raise_on_error=False):
                if isinstance(answered, ResponseError):
                    log.error("transit.foreign_value", reason=str(answered))
                elif isinstance(answered, Exception):
                    raise answered

    if transit.is_one:
        Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=6).call_with_retry(send, lambda _: None)
        return
    try:
        send()
    except ABSENT:
        if payload:
            _send_by_another(transit, batch, payload)


def _send_by_another(transit: Transit, batch: ClassifyBatch, payload: bytes) -> None:
    """By every other server that takes it, for which of them the gateway has in its list is not known here."""
    taken = 0
    for name in transit.elsewhere(batch.server):
        with suppress(*ABSENT), transit.at(name) as client, client.pipeline(transaction=False) as pipe:
            pipe.rpush(batch.reply_to, payload)
            pipe.expire(batch.reply_to, REPLY_TTL_S)
            pipe.execute()
            taken += 1
    log.warning("reply.sent_by_another", batch=batch.batch, server=batch.server, taken_by=taken)


def _span(tracer: Tracer, batch: ClassifyBatch, worker: str) -> Span | None:
    """The worker's part of a traced batch, and the wait in the queue before it."""
    if batch.traceparent is None:
        return None
    taken = time.time()
    tracer.record("queue", batch.sent_at, taken, parent=batch.traceparent)
    return tracer.start(
        "classify_batch",
        parent=batch.traceparent,
        at=taken,
        kind="consumer",
        attributes={"worker": worker, "images": len(batch.images)},
    )


def _trace_stages(span: Span, taken: float, fetched: float, result: BatchResult) -> None:
    """Each part is decoded and inferred by a thread of its own, so that the spans of parts overlap."""
    span.child("fetch", taken, fetched)
    epoch = time.time() - time.perf_counter()
    for part in result.parts:
        attributes: Attributes = {"images": part.images, "provider": result.provider}
        span.child("decode", epoch + part.began, epoch + part.decoded, attributes)
        span.child("inference", epoch + part.decoded, epoch + part.inferred, attributes)
