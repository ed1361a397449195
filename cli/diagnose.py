"""`fovea datasets diagnose`: what is wrong with a dataset's images, found by a version of a running Fovea."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from fovea_client import Diagnosis

SHOWN = 20


def diagnose(
    dataset: Annotated[str, typer.Argument(metavar="ID", help="The dataset's id.")],
    model: Annotated[
        str,
        typer.Option("--model", "-m", metavar="REFERENCE", help="NAME, NAME@ALIAS or NAME:VERSION."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file for the page with pictures (HTML).")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch the job until it ends.")] = True,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Find probably wrong labels, outliers and near-duplicates. Ctrl-C stops watching, not the job."""
    from cli.connection import connect
    from cli.job_progress import watch_job
    from cli.output import print_json, print_json_line

    if output and not wait:
        raise typer.BadParameter(
            "there is no page before the job has ended; leave --no-wait out", param_hint="--output"
        )
    with connect(url, key) as client:
        job = client.datasets.diagnose(dataset, model=model)
        if not wait:
            if as_json:
                print_json_line(job.to_dict())
            else:
                print(f"{job.id} is {job.state}; watch it: fovea jobs watch {job.id}")
            return
        job = watch_job(job, f"looking at {dataset}")
        # Of the same images there may have been a dataset already.
        found_in = str((job.result or {})["dataset"])
        found = client.datasets.diagnosis(found_in)
        if output:
            _write_page(client.datasets.diagnosis_page(found_in), output)
        page = output or f"{client.url}/v1/datasets/{found_in}/diagnosis?format=html"
    if as_json:
        print_json(found.to_dict())
    else:
        _print_diagnosis(found, page)


def _write_page(page: str, output: Path) -> None:
    from cli.output_file import output_file

    with output_file(output) as file:
        file.write(page.encode())


def _print_diagnosis(found: "Diagnosis", page: Path | str) -> None:
    from cli.output import print_table

    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    rows = [*_wrong_labels(found.wrong_labels), *_outliers(found.outliers), *_duplicates(found.near_duplicates)]
    if rows:
        print_table(("what", "image", "label", "rather", "score"), rows, right=("score",))
        print()
    for line in _in_words(found):
        print(line)
    print(f"\nWith pictures: {page}")


def _wrong_labels(found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    from cli.output import percent

    for entry in found["entries"][:SHOWN]:
        what = "wrong label" if entry["is_probable"] else "doubtful label"
        yield what, entry["path"], entry["label"], entry["suggested"], percent(entry["score"])


def _outliers(found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for entry in found["entries"][:SHOWN]:
        yield "like none", entry["path"], entry["label"], "", f"{entry['score']:.1f}"


def _duplicates(found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for group in found["entries"][:SHOWN]:
        for entry in group["images"][1:2]:
            shows = f"{entry['path']} = {group['images'][0]['path']}"
            yield "same picture", shows, entry["label"], "", f"{group['similarity']:.3f}"


def _in_words(found: "Diagnosis") -> Iterator[str]:
    """A line for each kind."""
    kinds = (
        (found.wrong_labels, "labels are probably wrong"),
        (found.outliers, "images are like none of their class"),
        (found.near_duplicates, "images show what another one shows"),
        (found.without_influence, "images are without influence: the others say the same"),
    )
    for kind, words in kinds:
        yield kind["reason"] or f"{kind['total']} of {kind['checked']} {words}"
    for pair in found.overlapping_classes["entries"][:SHOWN]:
        yield f"{pair['labels'][0]} and {pair['labels'][1]} are not told apart ({pair['confused']} confused)"
