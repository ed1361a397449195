"""Jobs of an inference worker by their kind; one of a kind that it does not know costs no attempt."""

from support.world import World

from storage.job_ledger import JobState
from workers.inference.job_runner import InferenceJobs
from workers.jobs.attempt import RunningAttempt


def test_a_job_is_done_by_the_function_of_its_kind(world: World) -> None:
    done: list[str] = []

    def note(attempt: RunningAttempt) -> None:
        done.append(attempt.job.id)

    job = world.ledger.create("classify", {})
    InferenceJobs(world.ledger, {"classify": note}, "here", 30).run(job.id)
    assert done == [job.id]


def test_a_job_of_a_later_releases_kind_is_given_back(world: World) -> None:
    job = world.ledger.create("from_the_future", {})
    InferenceJobs(world.ledger, {}, "here", 30).run(job.id)
    found = world.ledger.get(job.id)
    assert (found.state, found.attempt, found.error) == (JobState.QUEUED, 0, None)


def test_once_stopped_no_job_is_begun(world: World) -> None:
    jobs = InferenceJobs(world.ledger, {}, "here", 30)
    jobs.stop()
    job = world.ledger.create("classify", {})
    jobs.run(job.id)
    assert world.ledger.get(job.id).state == JobState.QUEUED
