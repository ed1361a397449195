"""Weights that are named in a request are looked for before a job is made."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.postgres import PostgresServer
from support.stack import Stack

from models.spec import Preprocessing
from models.weights.record import RECORD_SUFFIX
from storage.database import migrate

MODEL = {"model": "mine", "dataset": "builtin:digits", "validation": {"fraction": 0.2}}


def finetune(stack: Stack, architecture: str, weights: str) -> httpx.Response:
    body = {**MODEL, "architecture": architecture, "weights": weights}
    return httpx.post(f"{stack.url}/v1/finetunes", json=body, timeout=10)


def publish(stack: Stack, architecture: str, weights: str) -> httpx.Response:
    body = {"architecture": architecture, "weights": weights}
    return httpx.post(f"{stack.url}/v1/models/mine/versions", json=body, timeout=10)


def jobs(stack: Stack) -> int:
    return len(httpx.get(f"{stack.url}/v1/jobs?limit=200").json()["items"])


def import_weights(folder: Path, architecture: str, name: str) -> None:
    """As `fovea weights import` leaves them; nobody loads them here."""
    own = folder / "weights" / "imported" / architecture.replace("/", "--")
    own.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "architecture": architecture, "weights": name, "origin": "file", "sha256": "0" * 64, "size_bytes": 1,
        "imported_from": "mine.pth", "imported_at": "2026-01-01", "classes": 2, "labels": ["a", "b"],
        "licence": None, "trained_on": "not stated", "params": {}, "preprocessing": Preprocessing().to_dict(),
    }  # fmt: skip
    (own / f"{name}.pth{RECORD_SUFFIX}").write_text(json.dumps(record))


@pytest.mark.parametrize("ask", [finetune, publish])
@pytest.mark.parametrize(
    ("architecture", "weights", "said"),
    [
        ("resnet18", "nosuch", "resnet18 has no weights 'nosuch'. It has: imagenet1k_v1;"),
        ("resnet18", "imagenet1k_v3", "did you mean 'imagenet1k_v1'?"),
        ("resnet18", "A sentence.", "resnet18 has no weights 'a sentence.'"),
        ("lenet5", "nosuch", "It has none; 'none' is a network"),
        ("timm/resnet18", "nosuch", "timm/resnet18 has no weights 'nosuch'"),
    ],
)
def test_unknown_weights_are_a_404_before_there_is_a_job(
    stack: Stack, ask: Any, architecture: str, weights: str, said: str
) -> None:
    before = jobs(stack)
    answer = ask(stack, architecture, weights)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_weights")
    assert said in answer.json()["detail"]
    assert jobs(stack) == before


@pytest.mark.parametrize("ask", [finetune, publish])
@pytest.mark.parametrize(
    ("architecture", "weights"),
    [("resnet18", "imagenet"), ("resnet18", "IMAGENET1K_V1"), ("timm/resnet18", "a1_in1k"), ("resnet18", "own-1")],
)
def test_published_and_imported_weights_pass(stack: Stack, ask: Any, architecture: str, weights: str) -> None:
    import_weights(stack.folder, "resnet18", "own-1")
    assert ask(stack, architecture, weights).status_code == 202


@pytest.mark.parametrize("reference", ["colours", "colours:1", "colours@latest"])
def test_a_fine_tune_learns_on_from_a_model_and_a_publish_does_not(stack: Stack, reference: str) -> None:
    assert finetune(stack, "resnet18", reference).status_code == 202
    answer = publish(stack, "resnet18", reference)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_weights")


def test_a_version_that_is_not_there_is_named_as_what_it_is(stack: Stack) -> None:
    assert finetune(stack, "resnet18", "colours:9").json()["code"] == "unknown_version"


def test_where_the_workers_are_elsewhere_a_name_of_imported_weights_passes(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """They lie on the training worker's disk, which this gateway does not see."""
    postgres.run("CREATE DATABASE weights")
    migrate(postgres.url("weights"))
    fleet = Stack(tmp_path, environment={"FOVEA_DATABASE_URL": postgres.url("weights")})
    try:
        fleet.start("gateway")
        assert finetune(fleet, "resnet18", "own-2").status_code == 202
        assert finetune(fleet, "resnet18", "No Name!").json()["code"] == "unknown_weights"
    finally:
        fleet.stop()
