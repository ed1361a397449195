"""Requests and results of jobs: rows that older releases wrote are read, and a wrong field is named."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from models.training.recipe import ALEXNET_2012, DEFAULT, PRESETS
from models.validation import invalid_fields
from workers.contract.jobs.base import JobRequest, JobResult
from workers.contract.jobs.classify import ClassifiedImage, ClassifyRequest, ClassifyResult, PredictionSet
from workers.contract.jobs.classify_many import ClassifyManyOptions, ClassifyManyRequest, ClassifyManyResult
from workers.contract.jobs.datasets import IngestRequest, IngestResult, ReviseRequest, ReviseResult
from workers.contract.jobs.diagnose import DiagnoseRequest, DiagnoseResult
from workers.contract.jobs.evaluate import (
    ComparedPair,
    EvaluatedScore,
    EvaluatedVersion,
    EvaluateOptions,
    EvaluateRequest,
    EvaluateResult,
)
from workers.contract.jobs.finetune import (
    FinetuneRequest,
    FinetuneResult,
    PromotionResult,
    StrategyResult,
    ValidationOptions,
)
from workers.contract.jobs.kinds import REQUEST_OF_JOB, RESULT_OF_JOB, read_request
from workers.contract.jobs.model_file import UploadOptions
from workers.contract.jobs.publish import PublishRequest, PublishResult
from workers.contract.jobs.variants import VariantsRequest, VariantsResult
from workers.contract.messages import (
    ClassScore,
    UnknownScore,
)
from workers.contract.queues import JobKind

REQUESTS: dict[JobKind, tuple[JobRequest, dict[str, Any]]] = {
    JobKind.INGEST: (
        IngestRequest(dataset="ds_1", upload="jobs/job_1/upload", name="ants", on_fault="refuse", labels="none"),
        {
            "dataset": "ds_1",
            "upload": "jobs/job_1/upload",
            "name": "ants",
            "on_fault": "refuse",
            "labels": "none",
        },
    ),
    JobKind.REVISE: (
        ReviseRequest(
            dataset="ds_2", parent="ds_1", changes="jobs/job_1/changes", upload="", name="ants", on_fault="skip"
        ),
        {
            "dataset": "ds_2",
            "parent": "ds_1",
            "changes": "jobs/job_1/changes",
            "upload": "",
            "name": "ants",
            "on_fault": "skip",
        },
    ),
    JobKind.CLASSIFY: (
        ClassifyRequest(model="m", version=2, top_k=3, images=("i0", "i1"), names=("a.jpg", None)),
        {
            "model": "m",
            "version": 2,
            "top_k": 3,
            "images": ["i0", "i1"],
            "names": ["a.jpg", None],
            "precision": "",
            "coverage": None,
            "on_unknown": "mark",
        },
    ),
    JobKind.CLASSIFY_MANY: (
        ClassifyManyRequest(model="m", version=2, prefix="2026/november", top_k=3, precision="int8", chunk=32),
        {
            "model": "m",
            "version": 2,
            "dataset": None,
            "prefix": "2026/november",
            "top_k": 3,
            "precision": "int8",
            "coverage": None,
            "chunk": 32,
            "on_unknown": "mark",
        },
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
            "variants": "auto",
        },
    ),
    JobKind.VARIANTS: (
        VariantsRequest(model="m", version=2, dataset="ds_1", precisions=("int8", "fp16")),
        {"model": "m", "version": 2, "dataset": "ds_1", "precisions": ["int8", "fp16"]},
    ),
    JobKind.EVALUATE: (
        EvaluateRequest(
            models=(EvaluatedVersion(model="m", version=2, reference="m@production"),),
            dataset="ds_1",
            split="test",
            precision="int8",
            chunk=64,
        ),
        {
            "models": [{"model": "m", "version": 2, "reference": "m@production"}],
            "dataset": "ds_1",
            "split": "test",
            "precision": "int8",
            "chunk": 64,
        },
    ),
    JobKind.DIAGNOSE: (
        DiagnoseRequest(model="m", version=2, dataset="ds_1"),
        {"model": "m", "version": 2, "dataset": "ds_1"},
    ),
    JobKind.PUBLISH: (
        PublishRequest(model="m", architecture="convnet", architecture_params={"pattern": "INPUT -> FC"}),
        {
            "model": "m",
            "architecture": "convnet",
            "architecture_params": {"pattern": "INPUT -> FC"},
            "weights": "imagenet",
            "promote": "always",
            "upload": None,
        },
    ),
}
UPLOAD: dict[str, Any] = {
    "key": "jobs/job_1/upload",
    "name": "theirs.onnx",
    "kind": "onnx",
    "sha256": "0f" * 32,
    "size_bytes": 12,
    "labels": ["ant", "bee"],
    "preprocessing": {
        "height": None,
        "width": None,
        "resize": None,
        "fit": "squash",
        "interpolation": None,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
    },
    "output": None,
    "values": "logits",
    "licence": "MIT",
    "trained_on": None,
}
RESULTS: dict[JobKind, tuple[JobResult, dict[str, Any]]] = {
    JobKind.REVISE: (
        ReviseResult(dataset="ds_2", images=9, parent="ds_1", relabelled=1, removed=2, moved=3, added=4),
        {
            "dataset": "ds_2",
            "images": 9,
            "faults": {},
            "duplicate_of": None,
            "parent": "ds_1",
            "relabelled": 1,
            "removed": 2,
            "moved": 3,
            "added": 4,
        },
    ),
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
                ClassifiedImage(
                    name="a.jpg",
                    classes=(ClassScore(0, "cat", 0.75),),
                    error=None,
                    set=PredictionSet(coverage=0.95, classes=(ClassScore(0, "cat", 0.75),)),
                    unknown=UnknownScore(1.5, 2.5, False),
                ),
                ClassifiedImage(name=None, classes=None, error={"code": "image_unreadable", "detail": "why"}),
            ),
        ),
        {
            "model": "m",
            "version": 2,
            "provider": "CPUExecutionProvider",
            "precision": "float32",
            "predictions": [
                {
                    "name": "a.jpg",
                    "classes": [{"index": 0, "label": "cat", "probability": 0.75}],
                    "error": None,
                    "set": {"coverage": 0.95, "classes": [{"index": 0, "label": "cat", "probability": 0.75}]},
                    "unknown": {"score": 1.5, "threshold": 2.5, "is_unknown": False},
                },
                {
                    "name": None,
                    "classes": None,
                    "error": {"code": "image_unreadable", "detail": "why"},
                    "set": None,
                    "unknown": None,
                },
            ],
        },
    ),
    JobKind.CLASSIFY_MANY: (
        ClassifyManyResult(
            model="m", version=2, provider="CPUExecutionProvider", images=9, errors={"not_an_image": 2}, unknown=3
        ),
        {
            "model": "m",
            "version": 2,
            "provider": "CPUExecutionProvider",
            "precision": "float32",
            "images": 9,
            "errors": {"not_an_image": 2},
            "unknown": 3,
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
            variants_job="job_2",
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
            "variants_job": "job_2",
        },
    ),
    JobKind.VARIANTS: (
        VariantsResult(
            model="m",
            version=2,
            variants={"int8": {"passed": False, "reason": "It is slower."}},
            calibrated_on=200,
            judged_on=900,
            left_out=3,
            left_out_labels=("crimson",),
            seconds={"trying": 9.5},
        ),
        {
            "model": "m",
            "version": 2,
            "variants": {"int8": {"passed": False, "reason": "It is slower."}},
            "calibrated_on": 200,
            "judged_on": 900,
            "left_out": 3,
            "left_out_labels": ["crimson"],
            "seconds": {"trying": 9.5},
        },
    ),
    JobKind.DIAGNOSE: (
        DiagnoseResult(
            dataset="ds_1",
            model="m",
            version=2,
            images=398,
            wrong_labels=17,
            outliers=8,
            near_duplicates=3,
            without_influence=85,
            overlapping_classes=1,
            warnings=("m:2 learnt as a whole from these labels.",),
            seconds={"embedding": 1.5},
        ),
        {
            "dataset": "ds_1",
            "model": "m",
            "version": 2,
            "images": 398,
            "wrong_labels": 17,
            "outliers": 8,
            "near_duplicates": 3,
            "without_influence": 85,
            "overlapping_classes": 1,
            "warnings": ["m:2 learnt as a whole from these labels."],
            "seconds": {"embedding": 1.5},
        },
    ),
    JobKind.EVALUATE: (
        EvaluateResult(
            dataset="ds_1",
            split="unseen",
            images=90,
            versions=(
                EvaluatedScore(
                    model="m",
                    version=2,
                    reference="m@production",
                    precision="int8",
                    provider="CPUExecutionProvider",
                    images=80,
                    accuracy=0.9,
                    accuracy_interval=(0.8, 0.95),
                    top5_accuracy=None,
                    macro_f1=0.89,
                    loss=0.3,
                    brier=0.15,
                    calibration_error=0.02,
                    unknown_images=10,
                    seen_share=None,
                ),
            ),
            comparisons=(
                ComparedPair(
                    first="m:2",
                    second="m:1",
                    images=80,
                    only_first=9,
                    only_second=1,
                    difference=0.1,
                    difference_interval=(0.02, 0.18),
                    p_value=0.0215,
                    adjusted_p_value=0.0215,
                    conclusion="m:2 is right more often.",
                ),
            ),
            differing_images=12,
            warnings=("m:2 has no class named wasps.",),
        ),
        {
            "dataset": "ds_1",
            "split": "unseen",
            "images": 90,
            "versions": [
                {
                    "model": "m",
                    "version": 2,
                    "reference": "m@production",
                    "precision": "int8",
                    "provider": "CPUExecutionProvider",
                    "images": 80,
                    "accuracy": 0.9,
                    "accuracy_interval": [0.8, 0.95],
                    "top5_accuracy": None,
                    "macro_f1": 0.89,
                    "loss": 0.3,
                    "brier": 0.15,
                    "calibration_error": 0.02,
                    "unknown_images": 10,
                    "seen_share": None,
                }
            ],
            "comparisons": [
                {
                    "first": "m:2",
                    "second": "m:1",
                    "images": 80,
                    "only_first": 9,
                    "only_second": 1,
                    "difference": 0.1,
                    "difference_interval": [0.02, 0.18],
                    "p_value": 0.0215,
                    "adjusted_p_value": 0.0215,
                    "conclusion": "m:2 is right more often.",
                }
            ],
            "differing_images": 12,
            "warnings": ["m:2 has no class named wasps."],
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


@pytest.mark.parametrize("labels", [["ant", "bee"], "imagenet", None])
@pytest.mark.parametrize("preprocessing", [UPLOAD["preprocessing"], "imagenet", None])
def test_a_model_file_survives_its_row(labels: object, preprocessing: object) -> None:
    row = {
        "model": "m",
        "architecture": "onnx",
        "architecture_params": {},
        "weights": "uploaded",
        "promote": "always",
        "upload": {**UPLOAD, "labels": labels, "preprocessing": preprocessing},
    }
    request = read_request(PublishRequest, {**row, "upload": {**row["upload"], "added_later": 1}})
    assert json.loads(json.dumps(request.model_dump(mode="json"))) == row


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("labels", ["a", 3], "labels.1"),
        ("labels", "imagenet-21k", "labels"),
        ("labels", 3, "labels"),
        ("preprocessing", "torchvision", "preprocessing"),
        ("preprocessing", {"height": "224"}, "preprocessing.height"),
        ("preprocessing", {"mean": [0.5]}, "preprocessing.mean.1"),
        ("preprocessing", {"std": [0.5, 0.5, "x"]}, "preprocessing.std.2"),
        ("preprocessing", {"size": 224}, "preprocessing.size"),
        ("preprocessing", {"fit": "stretch"}, "preprocessing.fit"),
        ("values", "softmax", "values"),
        ("promote", "maybe", "promote"),
        ("weights", "imagenet", "weights"),
    ],
)
def test_a_wrong_option_of_a_model_file_is_named(field: str, value: object, named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        UploadOptions.model_validate({field: value})
    assert invalid_fields(caught.value.errors(), UploadOptions).faults[0].field == named


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
    assert [fault.field for fault in invalid_fields(caught.value.errors(), FinetuneRequest).faults] == [named]


def test_openapi_shows_the_fields_of_a_recipe() -> None:
    schema = FinetuneRequest.model_json_schema()
    name, overrides = schema["properties"]["recipe"]["oneOf"]
    assert name["enum"] == list(PRESETS)
    fields = schema["$defs"][overrides["$ref"].rpartition("/")[2]]["properties"]
    assert fields["epochs"]["maximum"] == 1000
    assert fields["optimizer"]["enum"] == ["adamw", "sgd"]
    assert fields["epochs"]["description"]


def test_numbers_that_the_first_release_took_are_read_from_its_rows() -> None:
    row = {
        "model": "m", "dataset": "ds_1", "architecture": "resnet18", "seed": "7",
        "validation": {"fraction": "0.25"}, "recipe": {"epochs": 10.0, "augmentation": {"rotation": 5}},
    }  # fmt: skip
    request = read_request(FinetuneRequest, row)
    assert (request.seed, request.validation.fraction, request.resolved_recipe().epochs) == (7, 0.25, 10)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    base = {"model": "m", "dataset": "ds_1", "architecture": "resnet18"}
    request = FinetuneRequest.model_validate({**base, "seed": 7.0, "recipe": {"epochs": 10.0, "patience": 3.0}})
    assert (request.seed, request.resolved_recipe().epochs, request.resolved_recipe().patience) == (7, 10, 3)
    with pytest.raises(ValidationError):
        FinetuneRequest.model_validate({**base, "recipe": {"epochs": 10.5}})


def test_names_of_weights_are_taken_in_any_case() -> None:
    base = {"model": "m", "dataset": "ds_1", "architecture": "resnet18"}
    assert FinetuneRequest.model_validate({**base, "weights": "None"}).weights == "none"


def test_a_bulk_classification_has_exactly_one_source() -> None:
    for body in ({}, {"dataset": "ds_1", "prefix": "a"}):
        with pytest.raises(ValidationError, match="exactly one of dataset and prefix"):
            ClassifyManyOptions.model_validate({"model": "m", **body})


@pytest.mark.parametrize(("given", "meant"), [("", ""), ("a/", "a"), ("2026/a b/", "2026/a b"), ("...", "...")])
def test_a_prefix_names_a_folder_with_or_without_a_slash_at_its_end(given: str, meant: str) -> None:
    assert ClassifyManyOptions.model_validate({"model": "m", "prefix": given}).prefix == meant


def test_overrides_of_the_built_in_digits_start_from_their_own_recipe() -> None:
    digits = {"model": "m", "dataset": "builtin:digits", "architecture": "lenet5", "recipe": {"epochs": 5}}
    recipe = FinetuneRequest.model_validate(digits).resolved_recipe()
    assert (recipe.epochs, recipe.augmentation.mirror) == (5, False)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("models", [], "models"),
        ("models", ["m"] * 9, "models"),
        ("models", "m", "models"),
        ("models", ["m", ""], "models.1"),
        ("models", ["m", 3], "models.1"),
        ("dataset", "", "dataset"),
        ("split", "val", "split"),
        ("precision", "int4", "precision"),
        ("model", "m", "model"),
    ],
)
def test_a_wrong_field_of_an_evaluation_is_named(field: str, value: object, named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EvaluateOptions.model_validate({"models": ["m"], "dataset": "ds_1", field: value})
    assert [fault.field for fault in invalid_fields(caught.value.errors(), EvaluateOptions).faults] == [named]
