"""Two cells, each with gateway, workers and Redis servers of its own, that share one PostgreSQL and one S3."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis
from support.colours import LABELS, picture
from support.fleet import Fleet, Host, archive_of
from support.postgres import PostgresServer
from support.redis import RedisServer
from support.s3 import S3Server

from storage.database import migrate
from workers.celery_app import KEY_PREFIX
from workers.contract.queues import Queue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# On a machine that others use a trainer may need a minute to start.
PATIENCE_S = 240
PNG = {"content-type": "image/png"}
FINETUNE = {"model": "colours", "architecture": "lenet5", "weights": "none", "strategy": "full"}
RECIPE = {"batch_size": 8, "patience": None, "augmentation": {"crop": "centre", "mirror": False}}
# So short that each cell's reconciler and clean-up look at everything of the other's all the time.
RESTLESS = {
    "FOVEA_RECONCILE_INTERVAL_S": "0.5",
    "FOVEA_REQUEUE_AFTER_S": "0.5",
    "FOVEA_CLEANUP_INTERVAL_S": "3",
    "FOVEA_LEASE_S": "10",
    "FOVEA_SPARE_TRAINER": "false",
}


class Cell(Fleet):
    """A fleet whose Redis servers are its own."""

    def __init__(self, folder: Path, shared: dict[str, str]) -> None:
        folder.mkdir()
        self.broker, self.transit = RedisServer().start(), RedisServer(durable=False).start()
        own = {"FOVEA_BROKER_URL": self.broker.url, "FOVEA_TRANSIT_URL": self.transit.url}
        super().__init__(folder, {**shared, **own})

    def remove(self) -> None:
        self.stop()
        self.broker.remove()
        self.transit.remove()

    def end(self, role: str) -> None:
        """Stop the cell's hosts of that role."""
        for host in self.running(role):
            host.stop()

    def running(self, role: str) -> list[Host]:
        return [host for host in self.hosts if host.role == role and host.process.poll() is None]

    def ended(self, job: Mapping[str, Any], timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        return super().ended(job, timeout_s)

    def queued(self, queue: Queue) -> int:
        with redis.Redis.from_url(self.broker.url) as client:
            return int(client.llen(KEY_PREFIX + queue.value))  # type: ignore[arg-type]

    def best(self, colour: str, reference: str = "colours") -> tuple[str, int]:
        """The label and the version that classified it."""
        answer = self.post(f"/v1/models/{reference}/classify", content=picture(colour, noise=777), headers=PNG)
        return answer["predictions"][0]["classes"][0]["label"], answer["version"]


@pytest.fixture(scope="module")
def cells(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, s3_server: S3Server
) -> Iterator[tuple[Cell, Cell]]:
    """Both with gateway, inference and training worker."""
    name = f"cells_{uuid4().hex[:12]}"
    postgres.run(f"CREATE DATABASE {name}")
    migrate(postgres.url(name))
    shared = {
        "FOVEA_DATABASE_URL": postgres.url(name),
        "FOVEA_BLOBS_URL": s3_server.make_bucket(),
        **s3_server.environment,
        **RESTLESS,
    }
    folder = tmp_path_factory.mktemp("cells")
    made = Cell(folder / "a", shared), Cell(folder / "b", shared)
    try:
        for cell in made:
            for role in ("gateway", "inference", "training"):
                cell.add(role)
        for cell in made:
            cell.wait_until(lambda cell=cell: cell.workers() == 2, "the cell's workers")  # type: ignore[misc]
        yield made
    finally:
        for cell in made:
            cell.remove()
        postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def dataset(cells: tuple[Cell, Cell]) -> str:
    """Made in the first cell."""
    a, _ = cells
    files = {
        f"{colour}/{number}.png": picture(colour, noise=1 + number + 1000 * place)
        for place, colour in enumerate(LABELS)
        for number in range(20)
    }
    accepted = a.post("/v1/datasets?name=colours", content=archive_of(files))
    assert a.ended(accepted["job"])["result"]["images"] == len(files)
    return str(accepted["id"])


def finetune(cell: Cell, dataset: str, epochs: int = 4) -> dict[str, Any]:
    asked = {**FINETUNE, "dataset": dataset, "recipe": {**RECIPE, "epochs": epochs}}
    return cell.post("/v1/finetunes", json=asked)


def test_what_one_cell_learns_the_other_serves_and_an_alias_moves_for_both(
    cells: tuple[Cell, Cell], dataset: str
) -> None:
    a, b = cells
    first = a.ended(finetune(a, dataset))
    assert (first["result"]["version"], first["attempt"]) == (1, 1)
    for colour in LABELS:
        assert a.best(colour) == b.best(colour) == (colour, 1)
    second = b.ended(finetune(b, dataset))
    assert (second["result"]["version"], second["attempt"]) == (2, 1)
    for version in (2, 1):
        answer = httpx.put(f"{a.url}/v1/models/colours/aliases/production", json={"version": version}, timeout=60)
        assert answer.status_code == 200, answer.text
        # Within the second that a gateway remembers a reference.
        began = time.monotonic()
        b.wait_until(lambda version=version: b.best("red") == ("red", version), "the alias to move", 10)  # type: ignore[misc]
        assert time.monotonic() - began < 5
        assert a.best("red") == ("red", version)
    # The clean-ups of both have looked at everything meanwhile; all of it is there and whole.
    for cell in cells:
        assert cell.best("green", "colours:1") == ("green", 1)
        assert cell.best("green", "colours:2") == ("green", 2)
        assert httpx.get(f"{cell.url}/v1/models/colours/versions/2/artifact", timeout=60).status_code == 200
        assert httpx.get(f"{cell.url}/v1/datasets/{dataset}", timeout=60).json()["state"] == "ready"


def test_jobs_of_both_cells_are_each_done_once(cells: tuple[Cell, Cell], dataset: str) -> None:
    """Whatever waits for half a second both cells send again; the lease lets one worker have it."""
    a, b = cells
    assert dataset
    if not httpx.get(f"{a.url}/v1/models/colours", timeout=10).is_success:
        a.ended(finetune(a, dataset))
    jobs = [
        cell.post(
            "/v1/models/colours/classify",
            content=picture(colour, noise=n),
            headers={**PNG, "prefer": "respond-async"},
        )
        for n in range(1, 11)
        for cell in cells
        for colour in LABELS[:2]
    ]
    ended = [a.ended(job) for job in jobs]
    assert [job["attempt"] for job in ended] == [1] * len(jobs)
    labels = [job["result"]["predictions"][0]["classes"][0]["label"] for job in ended]
    assert labels == [*LABELS[:2]] * (len(jobs) // 2)
    for cell in cells:
        cell.wait_until(lambda cell=cell: cell.queued(Queue.BULK) == 0, "the queue to be empty")  # type: ignore[misc]
    assert [b.job(job)["attempt"] for job in jobs] == [1] * len(jobs)


def test_a_job_of_a_cell_whose_worker_is_away_is_done_by_the_other_and_not_again(
    cells: tuple[Cell, Cell], dataset: str
) -> None:
    a, b = cells
    a.end("training")
    a.wait_until(lambda: a.workers() == 1, "the worker to be missed")
    job = finetune(a, dataset)
    ended = b.ended(job)
    # Its own message waits where it was sent first, for the worker that comes back.
    assert (ended["attempt"], a.queued(Queue.TRAINING)) == (1, 1)
    back = a.add("training")
    a.wait_until(lambda: a.workers() == 2, "the worker")
    a.wait_until(lambda: a.queued(Queue.TRAINING) == 0, "the message to be read")
    version = ended["result"]["version"]
    again = b.job(job)
    assert (again["state"], again["attempt"], again["result"]["version"]) == ("succeeded", 1, version)
    assert "job.started" not in back.log
    assert httpx.get(f"{a.url}/v1/models/colours", timeout=10).json()["latest"] == version


def test_a_cell_without_a_training_worker_keeps_no_job_from_the_others(
    cells: tuple[Cell, Cell], dataset: str
) -> None:
    """Its reconciler looks as often, and would mark each job as sent, to where nobody takes it."""
    a, b = cells
    b.end("training")
    b.wait_until(lambda: b.workers() == 1, "the worker to be missed")
    try:
        made_here = finetune(b, dataset)
        a.end("training")
        a.wait_until(lambda: a.workers() == 1, "the worker to be missed")
        lost = finetune(a, dataset)
        # The message is gone, and only the ledger knows of the job.
        with redis.Redis.from_url(a.broker.url) as client:
            client.delete(KEY_PREFIX + Queue.TRAINING.value)
        a.add("training")
        for job in (made_here, lost):
            assert a.ended(job)["attempt"] == 1
    finally:
        b.add("training")
        b.wait_until(lambda: b.workers() == 2, "the worker")


def test_a_running_job_is_left_alone_and_one_whose_cell_dies_goes_on_in_the_other(
    cells: tuple[Cell, Cell], dataset: str
) -> None:
    a, b = cells
    b.end("training")
    b.wait_until(lambda: b.workers() == 1, "the worker to be missed")
    job = finetune(a, dataset, epochs=300)
    a.wait_until(lambda: a.job(job)["progress"].get("epoch", 0) >= 2, "the second epoch", PATIENCE_S)
    b.add("training")
    b.wait_until(lambda: b.workers() == 2, "the worker")
    epoch = a.job(job)["progress"]["epoch"]
    a.wait_until(lambda: b.job(job)["progress"].get("epoch", 0) >= epoch + 2, "two epochs more", PATIENCE_S)
    # The other cell's reconciler has looked several times, and its worker is idle.
    assert (b.job(job)["state"], b.job(job)["attempt"]) == ("running", 1)
    (lost,) = a.running("training")
    lost.kill()
    b.wait_until(lambda: b.job(job)["attempt"] == 2, "the other cell to take it", PATIENCE_S)
    epoch = b.job(job)["progress"].get("epoch", 0)
    b.wait_until(lambda: b.job(job)["progress"].get("epoch", 0) > epoch, "it to go on", PATIENCE_S)
    (other,) = b.running("training")
    assert "checkpoint.fetched" in other.log
    assert b.post(f"/v1/jobs/{job['id']}/cancel")["cancel_requested"]
    b.wait_until(lambda: a.job(job)["state"] == "cancelled", "its end")
