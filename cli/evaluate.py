"""`fovea evaluate`: how good versions are on labelled images, and which is better, by a running Fovea."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import AsJson, Key, OnFault, Url

if TYPE_CHECKING:
    from fovea_client import Fovea, Job

# What a figure of a version's is called.
FIGURES = {
    "top5_accuracy": "top-5 accuracy",
    "macro_f1": "macro-F1",
    "loss": "negative log-likelihood",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="NAME, NAME@ALIAS or NAME:VERSION; several are compared."),
    ],
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", help="A dataset's id, builtin:digits, or a folder or archive, which is sent first."
        ),
    ],
    split: Annotated[
        Literal["unseen", "train", "validation", "test", "all"],
        typer.Option(help="Which of its images; unseen are those that no version is known to have learnt from."),
    ] = "unseen",
    precision: Annotated[str, typer.Option(help="auto (the fastest), float32, int8 or fp16.")] = "auto",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The card: a file, a page where it ends in .html, else md."),
    ] = None,
    on_fault: OnFault = "skip",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch the job until it ends.")] = True,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Measure versions on labelled images, and say which is better. Ctrl-C stops watching, not the job."""
    from cli.connection import connect
    from cli.dataset_upload import named_dataset
    from cli.job_progress import watch_job
    from cli.output import print_json_line

    if output and not wait:
        raise typer.BadParameter(
            "there is no card before the job has ended; leave --no-wait out", param_hint="--output"
        )
    with connect(url, key) as client:
        chosen = named_dataset(client, dataset, on_fault, lambda: _check_before_sending(client, models))
        job = client.evaluate(models=models, dataset=chosen, split=split, precision=precision)
        if wait:
            job = watch_job(job, f"measuring {' and '.join(models)}", as_json=as_json)
        if output:
            _write_card(job, output)
    if not wait and as_json:
        print_json_line(job.to_dict())
    elif not wait:
        print(f"{job.id} is {job.state}; watch it: fovea jobs watch {job.id}")
    elif not as_json:
        _print_result(job.result or {}, output)


def _check_before_sending(client: "Fovea", models: Sequence[str]) -> None:
    """A misspelt name is told before gigabytes are sent, not after. Raises NotFound."""
    for reference in models:
        client.models.get(reference.partition("@")[0].partition(":")[0])


def _write_card(job: "Job", output: Path) -> None:
    from cli.output_file import output_file

    text = job.card(form="html" if output.suffix in (".html", ".htm") else "md")
    with output_file(output) as file:
        file.write(text.encode())


def _print_result(result: Mapping[str, Any], output: Path | None) -> None:
    from cli.output import print_table

    versions: list[dict[str, Any]] = result["versions"]
    for warning in result["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    names = [f"{version['model']}:{version['version']}" for version in versions]
    print_table(("", *names), _rows(versions), right=names)
    if len(versions) > 1:
        print()
    for pair in result["comparisons"]:
        print(pair["conclusion"])
    if result["differing_images"]:
        print(f"On {result['differing_images']} of {result['images']} images they differ.")
    if output:
        print(f"\nHow they were measured, by class, and their mistakes: {output}")


def _rows(versions: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each figure, a column for each version."""
    from cli.output import percent

    rows = [
        ("images", *(str(version["images"]) for version in versions)),
        ("accuracy", *(percent(version["accuracy"]) for version in versions)),
        ("95 % interval", *(" – ".join(map(percent, version["accuracy_interval"])) for version in versions)),
    ]
    for figure, words in FIGURES.items():
        if any(version[figure] is not None for version in versions):
            rows.append((words, *(_figure(figure, version[figure]) for version in versions)))
    return [*rows, ("computed in", *(version["precision"] for version in versions))]


def _figure(name: str, value: float | None) -> str:
    from cli.output import percent

    if value is None:
        return ""
    return percent(value) if name.endswith("accuracy") else f"{value:.3f}"
