"""The ledger under many threads and processes: of those who want the same thing, exactly one gets it."""

import subprocess
import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from support.past import let_pass

from storage.database import Database
from storage.datasets import DatasetRegistry
from storage.errors import InUse, LeaseLost, NotFound
from storage.job_ledger import Attempt, Idempotency, Job, JobLedger, JobState

LEASE_S = 60
THREADS = 12


def test_a_job_is_taken_by_one_of_many_threads(database: Database) -> None:
    ledger = JobLedger(database)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(10):
            job = ledger.create("finetune", {})
            together = Barrier(THREADS)

            def take(worker: int, job: Job = job, together: Barrier = together) -> Attempt | None:
                together.wait()
                return ledger.take(job.id, f"w{worker}", LEASE_S)

            winners = [attempt for attempt in pool.map(take, range(THREADS)) if attempt]
            assert len(winners) == 1
            assert ledger.get(job.id).worker == winners[0].job.worker
            assert ledger.get(job.id).attempt == 1


def test_each_job_is_taken_by_one_of_several_processes(database: Database, url: str) -> None:
    """Two processes with six threads each want all the jobs; between them they run each once."""
    # Where others use the machine one of them may have done all before the other was given a processor.
    assert any(both_took_some(database, url) for _ in range(5)), "one process did all the work: nothing was raced"


def both_took_some(database: Database, url: str) -> bool:
    """Has two processes race for 50 jobs, each of which must be run once; whether both ran any."""
    ledger = JobLedger(database)
    jobs = [ledger.create("finetune", {"number": number}).id for number in range(50)]
    program = textwrap.dedent(
        """
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from storage.database import open_database
        from storage.job_ledger import JobLedger

        url, worker, *jobs = sys.argv[1:]
        database = open_database(url)
        ledger = JobLedger(database)

        def work(job):
            attempt = ledger.take(job, worker, 60)
            if attempt is not None:
                ledger.renew(attempt, 60)
                ledger.report_progress(attempt, {"done": 1})
                ledger.succeed(attempt, {"by": worker})
                return job

        database.ping()
        print("ready", flush=True)
        input()
        with ThreadPoolExecutor(6) as pool:
            print(*filter(None, pool.map(work, jobs)))
        database.close()
        """
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, url, f"w{number}", *jobs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    pipes = [(worker.stdin, worker.stdout) for worker in workers]
    for _, answers in pipes:
        assert answers is not None
        assert answers.readline() == "ready\n"
    for orders, _ in pipes:
        assert orders is not None
        orders.write("go\n")
        orders.flush()
    outputs = [worker.communicate(timeout=120) for worker in workers]

    assert [errors for _, errors in outputs] == [""] * 2
    assert Counter(job for taken, _ in outputs for job in taken.split()) == Counter(jobs)
    assert {ledger.get(job).state for job in jobs} == {JobState.SUCCEEDED}
    for job in jobs:
        assert [event.id for event in ledger.events(job)] == [1, 2, 3, 4]
    return all(taken.split() for taken, _ in outputs)


def test_a_raced_idempotency_key_makes_one_job(database: Database) -> None:
    ledger = JobLedger(database)
    key = Idempotency("scope", "abc", "sha")
    together = Barrier(THREADS)

    def create(_: int) -> str:
        together.wait()
        return ledger.create("finetune", {}, idempotency=key).id

    with ThreadPoolExecutor(THREADS) as pool:
        made = set(pool.map(create, range(THREADS)))

    assert len(made) == 1
    assert [job.id for job in ledger.list(10).items] == [*made]


def test_a_lost_job_goes_to_one_of_several_reconcilers(database: Database) -> None:
    ledger = JobLedger(database)
    jobs = [ledger.create("finetune", {"number": number}).id for number in range(40)]
    for job in jobs[::2]:
        ledger.take(job, "w1", lease_s=-1)
    together = Barrier(6)

    def reconcile(_: int) -> list[str]:
        together.wait()
        return [job.id for _ in range(3) for job in ledger.to_requeue(older_than_s=60)]

    let_pass(database, 61)
    with ThreadPoolExecutor(6) as pool:
        found = [job for some in pool.map(reconcile, range(6)) for job in some]
    assert Counter(found) == Counter(jobs)


def test_a_takeover_and_a_late_success_do_not_both_happen(database: Database) -> None:
    ledger = JobLedger(database)

    def succeed(late: Attempt) -> bool:
        try:
            ledger.succeed(late, {"by": "late"})
        except LeaseLost:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(40):
            job = ledger.create("finetune", {})
            late = ledger.take(job.id, "late", lease_s=-1)
            assert late is not None
            ended = pool.submit(succeed, late)
            heir = pool.submit(ledger.take, job.id, "heir", LEASE_S).result()
            assert ended.result() is (heir is None)


def test_a_raced_cancellation_is_never_lost(database: Database) -> None:
    ledger = JobLedger(database)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(40):
            job = ledger.create("finetune", {})
            cancelling = pool.submit(ledger.request_cancel, job.id)
            attempt = pool.submit(ledger.take, job.id, "w1", LEASE_S).result()
            cancelling.result()
            if attempt is None:
                assert ledger.get(job.id).state == JobState.CANCELLED
            else:
                assert ledger.renew(attempt, LEASE_S) is True


def test_a_dataset_is_not_deleted_from_under_a_new_job(database: Database) -> None:
    ledger, datasets = JobLedger(database), DatasetRegistry(database)

    def delete(dataset_id: str) -> bool:
        try:
            datasets.delete(dataset_id)
        except InUse:
            return False
        return True

    def create(dataset_id: str) -> bool:
        try:
            ledger.create("finetune", {"dataset": dataset_id})
        except NotFound:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(40):
            dataset = datasets.add("ants", prefix="datasets/x/")
            deleted = pool.submit(delete, dataset.id)
            created = pool.submit(create, dataset.id)
            assert deleted.result() is not created.result()
