"""Jobs that wait have one message each; what was lost is sent again. On a real Redis and a real ledger."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import update
from structlog.testing import capture_logs
from support.proxy import Proxy
from support.redis import RedisServer

from service.dispatch import JobDispatcher, job_messages
from storage.clock import from_now
from storage.database import Database, migrate, open_database
from storage.job_ledger import Job, JobLedger, JobState
from storage.tables import JobRow
from workers.celery_app import KEY_PREFIX, make_celery
from workers.contract.queues import JobKind, Queue, TaskName


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    migrate(f"sqlite:///{tmp_path}/fovea.db")
    opened = open_database(f"sqlite:///{tmp_path}/fovea.db")
    yield opened
    opened.close()


@pytest.fixture
def dispatcher(database: Database, redis_server: RedisServer) -> Iterator[JobDispatcher]:
    celery = make_celery(redis_server.url)
    yield JobDispatcher(celery, JobLedger(database))
    celery.close()


def waiting(dispatcher: JobDispatcher, kind: JobKind = JobKind.FINETUNE) -> Job:
    job = dispatcher.ledger.create(kind.value, {})
    asyncio.run(dispatcher.dispatch(job))
    return job


def reconcile(dispatcher: JobDispatcher, rounds: int = 1) -> None:
    for _ in range(rounds):
        asyncio.run(dispatcher.reconcile_once(requeue_after_s=-1))


def length(celery: Celery, queue: Queue) -> int:
    with celery.connection_for_read() as connection:
        return int(connection.default_channel.client.llen(queue.value))


def test_a_job_that_waits_for_hours_has_one_message(dispatcher: JobDispatcher) -> None:
    jobs = [waiting(dispatcher) for _ in range(4)] + [waiting(dispatcher, JobKind.INGEST)]
    reconcile(dispatcher, rounds=60)
    assert (length(dispatcher.celery, Queue.TRAINING), length(dispatcher.celery, Queue.BULK)) == (4, 1)
    assert job_messages(dispatcher.celery).queued == {job.id for job in jobs}


def test_a_client_is_answered_while_the_broker_is_silent(database: Database, redis_server: RedisServer) -> None:
    proxy = Proxy(redis_server.folder / "redis.sock").start()
    celery = make_celery(f"redis://127.0.0.1:{proxy.port}/0")
    dispatcher = JobDispatcher(celery, JobLedger(database), patience_s=0.2)
    try:
        sent = waiting(dispatcher)
        proxy.go_dead()
        with capture_logs() as logs:
            unsent = [waiting(dispatcher) for _ in range(4)]
        told = [(entry["job"], entry["reason"]) for entry in logs if entry["event"] == "job.not_sent"]
        assert told == [(job.id, "the broker is silent for 0.2 s") for job in unsent]
        # The connections are torn, so that the senders' threads end with this test.
        proxy.refuse()
        proxy.heal()
        reconcile(dispatcher)
        assert {sent.id, *(job.id for job in unsent)} <= job_messages(dispatcher.celery).queued
    finally:
        celery.close()
        proxy.stop()


def test_a_job_whose_message_was_lost_is_sent_again(dispatcher: JobDispatcher, redis_server: RedisServer) -> None:
    lost = waiting(dispatcher)
    redis_server.flush()
    kept = waiting(dispatcher)
    reconcile(dispatcher, rounds=3)
    assert length(dispatcher.celery, Queue.TRAINING) == 2
    assert job_messages(dispatcher.celery).queued == {lost.id, kept.id}


def test_a_message_that_a_worker_has_and_has_not_read_yet_counts(
    dispatcher: JobDispatcher, redis_server: RedisServer
) -> None:
    """One waits in a worker's hands behind the training that runs there."""
    job = waiting(dispatcher)
    worker = make_celery(redis_server.url, role="training")
    with worker.connection_for_read() as connection:
        consumer = connection.SimpleQueue(Queue.TRAINING.value)
        message = consumer.get(timeout=5)
        assert job_messages(dispatcher.celery) == (frozenset(), {job.id})
        reconcile(dispatcher)
        assert length(dispatcher.celery, Queue.TRAINING) == 0
        message.ack()
        reconcile(dispatcher)
        assert length(dispatcher.celery, Queue.TRAINING) == 1


def test_a_silent_workers_job_is_sent_again_although_it_still_has_the_message(
    dispatcher: JobDispatcher, database: Database, redis_server: RedisServer
) -> None:
    job = waiting(dispatcher)
    worker = make_celery(redis_server.url, role="training")
    with worker.connection_for_read() as connection:
        connection.SimpleQueue(Queue.TRAINING.value).get(timeout=5)
        assert dispatcher.ledger.take(job.id, "w1", 30) is not None
        with database.session() as session:
            session.execute(update(JobRow).values(lease_until=from_now(-1), dispatched_at=from_now(-60)))
        reconcile(dispatcher)
        assert length(dispatcher.celery, Queue.TRAINING) == 1
        reconcile(dispatcher, rounds=5)
        assert length(dispatcher.celery, Queue.TRAINING) == 1


@pytest.fixture
def other_cell(database: Database) -> Iterator[tuple[JobDispatcher, RedisServer]]:
    """A dispatcher over the same ledger with a broker of its own."""
    broker = RedisServer().start()
    celery = make_celery(broker.url)
    yield JobDispatcher(celery, JobLedger(database)), broker
    celery.close()
    broker.remove()


def test_a_job_that_waits_long_in_one_cell_gets_one_message_in_each_that_can_do_it(
    dispatcher: JobDispatcher, other_cell: tuple[JobDispatcher, RedisServer]
) -> None:
    other, _ = other_cell
    job = waiting(dispatcher)
    for _ in range(10):
        reconcile(other)
        reconcile(dispatcher)
    assert job_messages(other.celery).queued == job_messages(dispatcher.celery).queued == {job.id}
    assert length(other.celery, Queue.TRAINING) == length(dispatcher.celery, Queue.TRAINING) == 1


def test_a_cell_that_cannot_have_a_job_done_leaves_it_to_the_others(
    dispatcher: JobDispatcher,
    other_cell: tuple[JobDispatcher, RedisServer],
    database: Database,
    redis_server: RedisServer,
) -> None:
    """Whoever finds a job marks it as sent: one that looks first each time would keep it from everybody."""
    other, _ = other_cell
    other.served = lambda: [JobKind.INGEST.value]
    job = waiting(dispatcher)
    redis_server.flush()
    with database.session() as session:
        session.execute(update(JobRow).values(dispatched_at=from_now(-90)))
    asyncio.run(other.reconcile_once(requeue_after_s=60))
    asyncio.run(dispatcher.reconcile_once(requeue_after_s=60))
    assert job_messages(dispatcher.celery).queued == {job.id}
    assert length(other.celery, Queue.TRAINING) == 0


def test_a_cell_whose_broker_is_away_ends_what_needs_no_worker_and_takes_nothing(
    dispatcher: JobDispatcher, other_cell: tuple[JobDispatcher, RedisServer], database: Database
) -> None:
    other, broker = other_cell
    waits, lost = waiting(dispatcher), waiting(dispatcher)
    with database.session() as session:
        session.execute(update(JobRow).values(dispatched_at=from_now(-90)))
    attempt = dispatcher.ledger.take(lost.id, "w1", 30)
    assert attempt
    with database.session() as session:
        session.execute(
            update(JobRow).where(JobRow.id == lost.id).values(lease_until=from_now(-1), cancel_requested=True)
        )
    broker.kill()
    with pytest.raises(OperationalError):
        asyncio.run(other.reconcile_once(requeue_after_s=60))
    assert dispatcher.ledger.get(lost.id).state is JobState.CANCELLED
    assert [job.id for job in dispatcher.ledger.to_requeue(60)] == [waits.id]


def test_a_job_that_was_sent_is_accepted_although_the_database_could_not_note_it(
    dispatcher: JobDispatcher, database: Database
) -> None:
    job = dispatcher.ledger.create(JobKind.FINETUNE.value, {})
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME TO away")
    with capture_logs() as logged:
        asyncio.run(dispatcher.dispatch(job))
    assert length(dispatcher.celery, Queue.TRAINING) == 1
    assert [line["event"] for line in logged] == ["job.dispatch_not_recorded"]


def test_messages_that_cannot_be_read_are_passed_over(
    dispatcher: JobDispatcher, redis_server: RedisServer
) -> None:
    job = waiting(dispatcher)
    with dispatcher.celery.connection_for_read() as connection:
        client = connection.default_channel.client
        for junk in (b"", b"{}", b'{"body": "?"}', b'{"body": "e30="}', b"5"):
            client.lpush(Queue.TRAINING.value, junk)
    dispatcher.celery.send_task(TaskName.RUN_TRAINING_JOB.value, (None,))
    assert job_messages(dispatcher.celery).queued == {job.id}


def test_while_the_broker_is_away_nothing_is_sent_and_the_reconciler_goes_on(
    dispatcher: JobDispatcher, redis_server: RedisServer
) -> None:
    waiting(dispatcher)
    redis_server.stop()

    async def watch() -> None:
        running = asyncio.create_task(dispatcher.reconcile(interval_s=0.01, requeue_after_s=-1))
        await asyncio.sleep(0.1)
        assert not running.done()
        running.cancel()

    asyncio.run(watch())
    redis_server.start()
    reconcile(dispatcher)
    assert length(dispatcher.celery, Queue.TRAINING) == 1


def test_the_key_of_the_queue_is_the_one_that_kombu_uses(dispatcher: JobDispatcher) -> None:
    """`job_messages` spells keys that kombu makes: an upgrade of it must not make every job look lost."""
    waiting(dispatcher)
    with dispatcher.celery.connection_for_read() as connection:
        keys = {key.decode() for key in connection.default_channel.client.keys("*")}
    assert KEY_PREFIX + Queue.TRAINING.value in keys


def test_a_job_of_a_later_releases_kind_is_left_to_it_and_the_others_are_sent(
    dispatcher: JobDispatcher, redis_server: RedisServer
) -> None:
    dispatcher.ledger.create("from_the_future", {})
    known = dispatcher.ledger.create(JobKind.FINETUNE.value, {})
    reconcile(dispatcher)
    assert length(dispatcher.celery, Queue.TRAINING) == 1
    assert dispatcher.ledger.get(known.id).state.value == "queued"
