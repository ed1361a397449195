"""The JSON of every message, request and result: a change here changes the wire or rows, and is seen in review."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from models.training.recipe import ALEXNET_2012, DEFAULT, PRESETS
from models.validation import faults_of
from workers.contract import (
    QUEUE_OF_TASK,
    REQUEST_OF_JOB,
    RESULT_OF_JOB,
    TASK_OF_JOB,
    BatchTimings,
    ClassifiedImage,
    ClassifyBatch,
    ClassifyReply,
    ClassifyRequest,
    ClassifyResult,
    ClassScore,
    FinetuneRequest,
    FinetuneResult,
    Heartbeat,
    ImageOutcome,
    IngestRequest,
    IngestResult,
    InvalidMessage,
    JobKind,
    JobRequest,
    JobResult,
    PromotionResult,
    PublishRequest,
    PublishResult,
    RunJob,
    StrategyResult,
    TaskName,
    ValidationOptions,
    decode,
    encode,
    read_request,
)

SNAPSHOTS: list[tuple[Any, dict[str, Any]]] = [
    (
        ClassifyBatch("b1", "reply", "cats", 3, "models/cats/j1/", ("i1", "i2"), ("r1",), 5, 20.5, 10.5),
        {
            "batch": "b1",
            "reply_to": "reply",
            "model": "cats",
            "version": 3,
            "artifact": "models/cats/j1/",
            "images": ["i1", "i2"],
            "request_ids": ["r1"],
            "top_k": 5,
            "deadline": 20.5,
            "sent_at": 10.5,
            "traceparent": None,
        },
    ),
    (
        ClassifyReply(
            "b1",
            "w1",
            "CPUExecutionProvider",
            (ImageOutcome((ClassScore(0, "cat", 0.75),)), ImageOutcome(error="image_unreadable", detail="why")),
            BatchTimings(1.0, 2.0, 3.0, 4.0),
        ),
        {
            "batch": "b1",
            "worker": "w1",
            "provider": "CPUExecutionProvider",
            "outcomes": [
                {
                    "classes": [{"index": 0, "label": "cat", "probability": 0.75}],
                    "error": None,
                    "detail": None,
                },
                {"classes": [], "error": "image_unreadable", "detail": "why"},
            ],
            "timings": {"queue_ms": 1.0, "fetch_ms": 2.0, "decode_ms": 3.0, "inference_ms": 4.0},
            "error": None,
            "detail": None,
        },
    ),
    (RunJob("job_1"), {"job": "job_1"}),
    (
        Heartbeat("w1", ("training",), 1, "auto", ("CPUExecutionProvider",), ("models/cats/j1/",), 5.0),
        {
            "worker": "w1",
            "queues": ["training"],
            "slots": 1,
            "device": "auto",
            "providers": ["CPUExecutionProvider"],
            "models": ["models/cats/j1/"],
            "started_at": 5.0,
            "disk_free_bytes": None,
        },
    ),
]
MESSAGES = pytest.mark.parametrize(("message", "wire"), SNAPSHOTS, ids=[type(m).__name__ for m, _ in SNAPSHOTS])


@MESSAGES
def test_a_message_has_the_json_that_older_processes_know(message: Any, wire: dict[str, Any]) -> None:
    assert json.loads(json.dumps(encode(message))) == wire


@MESSAGES
def test_a_message_survives_the_wire(message: Any, wire: dict[str, Any]) -> None:
    assert decode(type(message), wire) == message


@MESSAGES
def test_a_newer_senders_fields_are_ignored(message: Any, wire: dict[str, Any]) -> None:
    assert decode(type(message), {**wire, "added_later": [1, {"x": 2}]}) == message


def test_an_older_senders_message_gets_defaults() -> None:
    assert decode(ClassifyReply, {"batch": "b", "worker": "w"}) == ClassifyReply("b", "w")
    assert decode(Heartbeat, {"worker": "w", "queues": [], "slots": 1}).providers == ()


def test_every_task_has_a_queue_and_every_job_a_task() -> None:
    assert set(QUEUE_OF_TASK) == set(TaskName)
    assert set(TASK_OF_JOB) == set(JobKind)


@pytest.mark.parametrize(
    "payload", [b"5", b"null", b"{", b"\xff", b"{}", b'{"batch": {}, "worker": "w"}', {"batch": 5}]
)
def test_what_is_no_message_is_refused_by_the_field_that_is_wrong(payload: Any) -> None:
    with pytest.raises(InvalidMessage, match=r"^ClassifyReply: (batch|the message): "):
        decode(ClassifyReply, payload)


@MESSAGES
def test_json_text_is_read_as_well(message: Any, wire: dict[str, Any]) -> None:
    assert decode(type(message), json.dumps(wire).encode()) == message


REQUESTS: dict[JobKind, tuple[JobRequest, dict[str, Any]]] = {
    JobKind.INGEST: (
        IngestRequest(dataset="ds_1", upload="jobs/job_1/upload", name="ants", on_fault="refuse"),
        {"dataset": "ds_1", "upload": "jobs/job_1/upload", "name": "ants", "on_fault": "refuse"},
    ),
    JobKind.CLASSIFY: (
        ClassifyRequest(model="m", version=2, top_k=3, images=("i0", "i1"), names=("a.jpg", None)),
        {"model": "m", "version": 2, "top_k": 3, "images": ["i0", "i1"], "names": ["a.jpg", None]},
    ),
    JobKind.FINETUNE: (
        FinetuneRequest.model_validate(
            {
                "model": "m",
                "dataset": "ds_1",
                "architecture": "resnet18",
                "recipe": {"preset": "alexnet-2012", "epochs": 3, "augmentation": {"mirror": False}},
                "validation": {"fraction": 0.25},
                "seed": 7,
                "promote": "if_better",
            }
        ),
        {
            "model": "m",
            "dataset": "ds_1",
            "architecture": "resnet18",
            "architecture_params": {},
            "weights": "imagenet",
            "strategy": "auto",
            "recipe": {"preset": "alexnet-2012", "epochs": 3, "augmentation": {"mirror": False}},
            "validation": {"fraction": 0.25},
            "seed": 7,
            "promote": "if_better",
        },
    ),
    JobKind.PUBLISH: (
        PublishRequest(model="m", architecture="convnet", architecture_params={"pattern": "INPUT -> FC"}),
        {
            "model": "m",
            "architecture": "convnet",
            "architecture_params": {"pattern": "INPUT -> FC"},
            "weights": "imagenet",
            "promote": "always",
        },
    ),
}
RESULTS: dict[JobKind, tuple[JobResult, dict[str, Any]]] = {
    JobKind.INGEST: (
        IngestResult(dataset="ds_0", images=9, faults={"unreadable": 1}, duplicate_of="ds_0"),
        {"dataset": "ds_0", "images": 9, "faults": {"unreadable": 1}, "duplicate_of": "ds_0"},
    ),
    JobKind.CLASSIFY: (
        ClassifyResult(
            model="m",
            version=2,
            provider="CPUExecutionProvider",
            predictions=(
                ClassifiedImage(name="a.jpg", classes=(ClassScore(0, "cat", 0.75),), error=None),
                ClassifiedImage(name=None, classes=None, error={"code": "image_unreadable", "detail": "why"}),
            ),
        ),
        {
            "model": "m",
            "version": 2,
            "provider": "CPUExecutionProvider",
            "predictions": [
                {
                    "name": "a.jpg",
                    "classes": [{"index": 0, "label": "cat", "probability": 0.75}],
                    "error": None,
                },
                {"name": None, "classes": None, "error": {"code": "image_unreadable", "detail": "why"}},
            ],
        },
    ),
    JobKind.FINETUNE: (
        FinetuneResult(
            model="m",
            version=3,
            metrics={"accuracy": 0.9},
            promoted=True,
            promotion=PromotionResult(promoted=True, reason="Better.", previous=2, previous_accuracy=0.8),
            strategy=StrategyResult(strategy="head", reason="Few images."),
            stopped="solved",
            seconds={"training": 1.5},
        ),
        {
            "model": "m",
            "version": 3,
            "metrics": {"accuracy": 0.9},
            "promoted": True,
            "promotion": {"promoted": True, "reason": "Better.", "previous": 2, "previous_accuracy": 0.8},
            "strategy": {"strategy": "head", "reason": "Few images."},
            "stopped": "solved",
            "seconds": {"training": 1.5},
        },
    ),
    JobKind.PUBLISH: (
        PublishResult(model="m", version=1, metrics={"published": {}}, promoted=False, seconds={"exporting": 2.0}),
        {
            "model": "m",
            "version": 1,
            "metrics": {"published": {}},
            "promoted": False,
            "seconds": {"exporting": 2.0},
        },
    ),
}


def test_every_kind_of_job_has_its_request_and_its_result() -> None:
    assert set(REQUEST_OF_JOB) == set(RESULT_OF_JOB) == set(REQUESTS) == set(RESULTS) == set(JobKind)


@pytest.mark.parametrize("kind", JobKind)
def test_a_request_has_the_json_that_older_rows_have(kind: JobKind) -> None:
    request, row = REQUESTS[kind]
    assert type(request) is REQUEST_OF_JOB[kind]
    assert json.loads(json.dumps(request.model_dump(mode="json"))) == row


@pytest.mark.parametrize("kind", JobKind)
def test_a_request_survives_its_row_and_ignores_what_a_newer_release_added(kind: JobKind) -> None:
    request, row = REQUESTS[kind]
    assert read_request(REQUEST_OF_JOB[kind], row) == request
    newer = {**row, "added_later": {"x": 1}}
    if kind is JobKind.FINETUNE:
        newer["validation"] = {**row["validation"], "folds": 5}
        newer["recipe"] = {
            **row["recipe"],
            "added": 1,
            "augmentation": {**row["recipe"]["augmentation"], "too": 2},
        }
    assert read_request(REQUEST_OF_JOB[kind], newer) == request


@pytest.mark.parametrize("kind", JobKind)
def test_a_result_has_the_json_that_clients_know(kind: JobKind) -> None:
    result, row = RESULTS[kind]
    assert json.loads(json.dumps(result.model_dump(mode="json"))) == row
    assert RESULT_OF_JOB[kind].model_validate({**row, "added_later": 1}) == result


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (JobKind.INGEST, {"dataset": "ds_1", "upload": "uploads/1", "name": "n", "on_fault": "skip"}),
        (
            JobKind.CLASSIFY,
            {"model": "m", "version": 1, "top_k": 5, "prefix": "classify/1/", "images": ["i"], "names": [None]},
        ),
        (JobKind.FINETUNE, {"model": "m", "dataset": "builtin:digits", "architecture": "lenet5"}),
        (JobKind.PUBLISH, {"model": "m", "architecture": "resnet18", "weights": "imagenet", "labels": []}),
    ],
)
def test_rows_of_the_first_release_are_still_read(kind: JobKind, row: dict[str, Any]) -> None:
    request = read_request(REQUEST_OF_JOB[kind], row)
    assert {name: request.model_dump(mode="json")[name] for name in row if name not in ("prefix", "labels")} == {
        name: value for name, value in row.items() if name not in ("prefix", "labels")
    }


def test_three_fields_are_enough_for_a_fine_tune() -> None:
    request = FinetuneRequest.model_validate({"model": "m", "dataset": "ds_1", "architecture": "resnet18"})
    assert (request.weights, request.strategy, request.promote, request.seed) == ("imagenet", "auto", "never", 0)
    assert (request.resolved_recipe(), request.preset) == (DEFAULT, "default")
    assert request.validation == ValidationOptions(fraction=0.2)


def test_the_built_in_digits_have_a_default_recipe_of_their_own() -> None:
    digits = {"model": "m", "dataset": "builtin:digits", "architecture": "lenet5"}
    assert FinetuneRequest.model_validate(digits).resolved_recipe() == PRESETS["digits"]
    asked = FinetuneRequest.model_validate({**digits, "recipe": "alexnet-2012"})
    assert (asked.resolved_recipe(), asked.preset) == (ALEXNET_2012, "alexnet-2012")
    custom = FinetuneRequest.model_validate({**digits, "recipe": {"epochs": 3}})
    assert (custom.resolved_recipe().epochs, custom.preset) == (3, None)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("model", None, "model"),
        ("model", "Ants And Bees", "model"),
        ("dataset", "", "dataset"),
        ("architecture", 3, "architecture"),
        ("architecture_params", "x", "architecture_params"),
        ("strategy", "tail", "strategy"),
        ("promote", "maybe", "promote"),
        ("seed", -1, "seed"),
        ("seed", True, "seed"),
        ("validation", {"fraction": 0.99}, "validation.fraction"),
        ("validation", {"share": 0.2}, "validation.share"),
        ("validation", 0.2, "validation"),
        ("recipe", {"epochs": "many"}, "recipe.epochs"),
        ("recipe", {"augmentation": {"hue": 3}}, "recipe.augmentation.hue"),
        ("sead", 3, "sead"),
    ],
)
def test_a_wrong_field_of_a_fine_tune_is_named(field: str, value: object, named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FinetuneRequest.model_validate({"model": "m", "dataset": "ds_1", "architecture": "resnet18", field: value})
    assert [fault.field for fault in faults_of(caught.value.errors(), FinetuneRequest)] == [named]


def test_openapi_shows_the_fields_of_a_recipe() -> None:
    schema = FinetuneRequest.model_json_schema()
    name, overrides = schema["properties"]["recipe"]["oneOf"]
    assert name["enum"] == list(PRESETS)
    fields = schema["$defs"][overrides["$ref"].rpartition("/")[2]]["properties"]
    assert fields["epochs"]["maximum"] == 1000
    assert fields["optimizer"]["enum"] == ["adamw", "sgd"]
    assert fields["epochs"]["description"]
