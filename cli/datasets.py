"""`fovea datasets`: labelled images, sent to a running Fovea and checked there."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.diagnose import diagnose
from cli.options import AsJson, Key, OnFault, Url, Yes, confirm

if TYPE_CHECKING:
    from fovea_client import Dataset, Report

app = typer.Typer(no_args_is_help=True, help="Send, correct, list, show and delete datasets.")

app.command()(diagnose)

DatasetId = Annotated[str, typer.Argument(metavar="ID", help="The dataset's id.")]


@app.command()
def create(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_OR_ARCHIVE",
            help="Folder, zip, tar or tar.gz of class folders, of train/ val/ test/ over class folders, "
            "or with a manifest (file,label[,split]).",
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="For people; the file's or folder's by default.")
    ] = None,
    on_fault: OnFault = "skip",
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send labelled images and show what the check found. Exit code 1 when they are refused."""
    from cli.connection import connect
    from cli.dataset_upload import create_dataset
    from cli.output import print_json

    with connect(url, key) as client:
        dataset, report = create_dataset(client, source, name, on_fault)
    if as_json:
        print_json({**dataset.to_dict(), "report": report.to_dict()})
    else:
        _print_created(dataset, report)
    if dataset.state != "ready":
        raise typer.Exit(1)


@app.command()
def revise(
    dataset: DatasetId,
    relabel: Annotated[
        list[str] | None, typer.Option("--relabel", metavar="IMAGE=LABEL", help="The image is of this class.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="IMAGE", help="Leave it out.")] = None,
    move: Annotated[
        list[str] | None, typer.Option("--move", metavar="IMAGE=SPLIT", help="To train, val or test.")
    ] = None,
    add: Annotated[
        Path | None, typer.Option(metavar="DIR_OR_ARCHIVE", help="Further images, in folders of their classes.")
    ] = None,
    changes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV or JSON Lines of changes: image, and label, split, or remove (true)."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="For people; the dataset's by default.")] = None,
    on_fault: OnFault = "skip",
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Correct a dataset: another one with changes, which shares the files of what stays. Exit code 1 when refused.

    An IMAGE is a path in the dataset, the end of one, or a sha256.
    """
    from cli.connection import connect
    from cli.dataset_changes import changes_of
    from cli.dataset_upload import revise_dataset
    from cli.output import print_json

    asked = changes_of(relabel or (), remove or (), move or (), changes)
    if not asked and not add:
        raise typer.BadParameter("nothing is to be changed: give --relabel, --remove, --move, --add or --changes")
    with connect(url, key) as client:
        revision, report = revise_dataset(client, dataset, asked, add=add, name=name, on_fault=on_fault)
    if as_json:
        print_json({**revision.to_dict(), "report": report.to_dict()})
    else:
        _print_created(revision, report)
    if revision.state != "ready":
        raise typer.Exit(1)


@app.command()
def revisions(dataset: DatasetId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """A dataset's family: what was sent, and what was made of it, the newest first."""
    from cli.connection import connect
    from cli.output import local_time, print_json, print_table, size

    with connect(url, key) as client:
        found = list(client.datasets.revisions(dataset))
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    rows = (
        (d.id, str(d.revision), d.parent or "", d.name, d.state, size(d.size_bytes), local_time(d.created_at))
        for d in found
    )
    columns = ("dataset", "revision", "of", "name", "state", "size", "created")
    print_table(columns, rows, optional=("size", "created"), right=("revision", "size"))


@app.command("list")
def list_datasets(
    search: Annotated[str | None, typer.Option(help="Part of the name or the id.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Every dataset, the newest first."""
    from cli.connection import connect
    from cli.output import local_time, print_json, print_table, size

    with connect(url, key) as client:
        datasets = list(client.datasets.list(search=search))
    if as_json:
        print_json([dataset.to_dict() for dataset in datasets])
        return
    if not datasets and not search:
        print("No dataset yet; send one: fovea datasets create DIR_OR_ARCHIVE")
        return
    rows = (
        (d.id, d.name, d.state, str(len(d.labels)), size(d.size_bytes), local_time(d.created_at)) for d in datasets
    )
    columns = ("dataset", "name", "state", "classes", "size", "created")
    print_table(columns, rows, optional=("size", "classes"), right=("classes", "size"))


@app.command()
def show(dataset: DatasetId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """One dataset with its counts."""
    from cli.connection import connect
    from cli.dataset_report import counts_by_split, in_words
    from cli.output import local_time, print_json, print_table, size

    with connect(url, key) as client:
        found = client.datasets.get(dataset)
    if as_json:
        print_json(found.to_dict())
        return
    rows = [
        ("dataset", found.id),
        ("name", found.name),
        ("revision", f"{found.revision} of {found.parent}" if found.parent else ""),
        ("state", found.state),
        ("classes", _shortened(found.labels)),
        ("images", in_words(counts_by_split(found.counts))),
        ("size", size(found.size_bytes)),
        ("content", found.content_hash or ""),
        ("created", local_time(found.created_at)),
    ]
    print_table(("", ""), (row for row in rows if row[1]))


@app.command()
def report(
    dataset: DatasetId,
    every_fault: Annotated[bool, typer.Option("--all", help="Every fault, not the first twenty.")] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """What the check of a dataset found: counts, and each fault with file and reason."""
    from cli.connection import connect
    from cli.dataset_report import print_report
    from cli.output import print_json

    with connect(url, key) as client:
        found = client.datasets.report(dataset)
    if as_json:
        print_json(found.to_dict())
    else:
        print_report(found, dataset, every_fault=every_fault)


@app.command()
def delete(dataset: DatasetId, yes: Yes = False, url: Url = None, key: Key = None) -> None:
    """Delete a dataset with its images, but those that revisions hold. Refused while a job uses it."""
    from cli.connection import connect

    confirm(f"Delete the dataset {dataset} with its images?", yes)
    with connect(url, key) as client:
        client.datasets.delete(dataset)
    print(f"{dataset} is deleted")


def _print_created(dataset: "Dataset", report: "Report") -> None:
    from cli.dataset_report import print_report

    print_report(report, dataset.id)
    print(f"\n{dataset.id} ({dataset.name}) is {dataset.state}")
    if dataset.state == "ready":
        print(f"Learn it: fovea finetune {dataset.id} --model NAME --architecture mobilenet_v2")


def _shortened(labels: Sequence[str], most: int = 12) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return f"{len(labels)}: {', '.join(labels[:most])}{more}" if labels else ""
