"""Requests to train: what is wrong is told before a job is made."""

import base64
import json
import signal
import time
from typing import Any

import httpx
import pytest
from redis import Redis
from support.gateways import Gateways
from support.stack import Stack
from support.world import colours_archive

from service.dispatch import RELEASE_EVERY_S
from storage.datasets import DatasetRegistry, DatasetState
from storage.job_ledger import JobLedger
from workers.celery_app import KEY_PREFIX
from workers.contract.queues import Queue

GOOD: dict[str, Any] = {
    "model": "digits",
    "dataset": "builtin:digits",
    "architecture": "lenet5",
    "weights": "none",
}


def test_a_good_request_is_accepted_as_a_queued_job(stack: Stack) -> None:
    answer = httpx.post(f"{stack.url}/v1/finetunes", json=GOOD)
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["state"], job["request"]["strategy"]) == ("finetune", "queued", "auto")
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    cancelled = httpx.post(f"{stack.url}/v1/jobs/{job['id']}/cancel").json()
    assert cancelled["state"] == "cancelled"


def test_a_repeated_request_returns_the_same_job(stack: Stack) -> None:
    headers = {"idempotency-key": "again"}
    jobs = [httpx.post(f"{stack.url}/v1/finetunes", json=GOOD, headers=headers).json()["id"] for _ in range(2)]
    assert jobs[0] == jobs[1]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"model": "UPPER"}, 422, "body.model"),
        ({"model": None}, 422, "body.model"),
        ({"dataset": ""}, 422, "body.dataset"),
        ({"dataset": "ds_none"}, 404, "ds_none"),
        ({"architecture": "lenet6"}, 404, "lenet5"),
        ({"architecture_params": {"depth": 3}}, 422, "body.architecture_params.depth"),
        ({"weights": "imagenet"}, 422, "body.weights"),
        ({"weights": "nothing@production"}, 404, "nothing"),
        ({"strategy": "magic"}, 422, "body.strategy"),
        ({"recipe": "nothing"}, 422, "body.recipe"),
        ({"recipe": {"epochs": "many"}}, 422, "body.recipe.epochs"),
        ({"recipe": {"learningrate": 1}}, 422, "body.recipe.learningrate"),
        ({"validation": {"fraction": 2}}, 422, "body.validation.fraction"),
        ({"seed": -1}, 422, "body.seed"),
        ({"promote": "perhaps"}, 422, "body.promote"),
        ({"learn": "fast"}, 422, "body.learn"),
    ],
)
def test_every_wrong_field_is_named(stack: Stack, change: dict[str, Any], status: int, said: str) -> None:
    answer = httpx.post(f"{stack.url}/v1/finetunes", json={**GOOD, **change})
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_all_wrong_fields_are_named_at_once_with_what_was_meant(stack: Stack) -> None:
    recipe = {"learningrate": 1, "epochs": 0, "augmentation": {"mirrored": True}}
    answer = httpx.post(f"{stack.url}/v1/finetunes", json={**GOOD, "seed": -1, "recipe": recipe})
    errors = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert set(errors) == {
        "body.seed", "body.recipe.learningrate", "body.recipe.epochs", "body.recipe.augmentation.mirrored",
    }  # fmt: skip
    assert errors["body.recipe.learningrate"].endswith("did you mean learning_rate?")
    assert errors["body.recipe.epochs"] == "got 0, expected a value greater than or equal to 1"


def checking(url: str, headers: dict[str, str], seed: int) -> dict[str, Any]:
    """A dataset that nobody checks, for there is no worker."""
    archive = colours_archive(seed=seed)
    answer = httpx.post(f"{url}/v1/datasets?name=colours", content=archive, headers=headers, timeout=30)
    assert answer.status_code == 202, answer.text
    dataset: dict[str, Any] = answer.json()
    return dataset


def test_a_fine_tune_waits_for_its_dataset_and_is_sent_once_after_a_restart(gateways: Gateways) -> None:
    """Two gateways look; the one that took the request is killed in between."""
    _, headers = gateways.key("train")
    first = gateways.stacks[0]
    dataset = checking(first.url, headers, seed=1)
    asked = {**GOOD, "dataset": dataset["id"], "model": "waits"}
    answer = httpx.post(f"{first.url}/v1/finetunes", json=asked, headers=headers)
    assert answer.status_code == 202
    job = answer.json()
    assert (job["state"], job["progress"]) == ("queued", {"phase": "waiting for the dataset"})
    first.stop_process("gateway", signal.SIGKILL)
    first.start_process("gateway")
    first.wait_until(first.alive, "the gateway again")

    ledger, datasets = JobLedger(gateways.database), DatasetRegistry(gateways.database)
    attempt = ledger.take(dataset["job"]["id"], "test", 30)
    assert attempt
    with ledger.transaction(attempt) as within:
        datasets.record_check(dataset["id"], DatasetState.READY, content_hash="f1", labels=["red"], within=within)
        ledger.succeed(attempt, {"dataset": dataset["id"]}, within=within)

    first.wait_until(lambda: messages_of(gateways, job["id"]) == 1, "the job to be sent", timeout_s=10)
    assert httpx.get(f"{first.url}/v1/jobs/{job['id']}", headers=headers).json()["progress"] == {}
    time.sleep(2 * RELEASE_EVERY_S)
    assert messages_of(gateways, job["id"]) == 1


def messages_of(gateways: Gateways, job: str) -> int:
    """How many the queue of the trainings holds, for nobody takes any."""
    with Redis.from_url(gateways.redis_url) as redis:
        messages = redis.lrange(KEY_PREFIX + Queue.TRAINING.value, 0, -1)
    bodies = [base64.b64decode(json.loads(message)["body"]) for message in messages]
    return sum(job.encode() in body for body in bodies)


def test_a_fine_tune_fails_with_the_dataset_that_it_waits_for(gateways: Gateways) -> None:
    _, headers = gateways.key("train")
    url = gateways.urls[1]
    dataset = checking(url, headers, seed=2)
    asked = {**GOOD, "dataset": dataset["id"], "model": "waits"}
    job = httpx.post(f"{url}/v1/finetunes", json=asked, headers=headers).json()
    assert httpx.delete(f"{url}/v1/datasets/{dataset['id']}", headers=headers).json()["code"] == "in_use"
    httpx.post(f"{url}/v1/jobs/{dataset['job']['id']}/cancel", headers=headers).raise_for_status()

    def found() -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{url}/v1/jobs/{job['id']}", headers=headers).json()
        return answer

    gateways.stacks[1].wait_until(lambda: found()["state"] == "failed", "the job to fail", timeout_s=10)
    assert found()["error"] == {
        "code": "dataset_refused",
        "detail": f"Dataset {dataset['id']} was refused: The check was cancelled.",
    }
