"""Requests to train: what is wrong is told before a job is made."""

from typing import Any

import httpx
import pytest
from support.stack import Stack

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
