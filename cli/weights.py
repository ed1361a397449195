"""`fovea weights`: published and imported weights, and the folder on this machine where they lie."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson

if TYPE_CHECKING:
    from models.weights.source import WeightsSource
    from models.weights.store import WeightsStore

app = typer.Typer(no_args_is_help=True, help="List, fetch, import and verify weights.")

Architecture = Annotated[str, typer.Argument(metavar="ARCHITECTURE", help="As `fovea architectures list` has it.")]
Name = Annotated[str, typer.Argument(metavar="[NAME]", help="`imagenet` is the architecture's default.")]
Folder = Annotated[
    Path | None,
    typer.Option("--weights-dir", envvar="FOVEA_WEIGHTS_DIR", help="The weights folder; data/weights by default."),
]
Mirror = Annotated[
    str | None,
    typer.Option("--url", envvar="FOVEA_WEIGHTS_URL", help="A mirror that stands for the publishers' hosts."),
]
Offline = Annotated[bool, typer.Option("--offline", envvar="FOVEA_OFFLINE", help="Never use the network.")]


@app.command("list")
def list_all(
    architecture: Annotated[str | None, typer.Argument(metavar="[ARCHITECTURE]")] = None,
    folder: Folder = None,
    here: Annotated[bool, typer.Option("--here", help="Only those whose file is in the weights folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Published and imported weights, with what is in the weights folder."""
    from cli.output import print_json, print_table, size

    store = _store(folder)
    found = [(source, store.has(source)) for source in _sources(architecture, store)]
    found = [(source, present) for source, present in found if present or not here]
    if as_json:
        print_json([{**source.to_dict(), "here": present} for source, present in found])
        return
    if not found:
        print(_none_text(architecture, here))
        return
    print_table(
        ("architecture", "weights", "trained on", "classes", "published", "licence", "size", "here"),
        (
            (
                source.architecture,
                source.name + (" (default)" if source.default else ""),
                source.trained_on,
                str(source.num_classes or ""),
                _accuracy(source),
                source.licence or "not stated",
                size(source.size_bytes),
                "yes" if present else "",
            )
            for source, present in found
        ),
        optional=("trained on", "classes"),
        right=("classes", "published", "size"),
    )


@app.command()
def show(
    architecture: Architecture, name: Name = "imagenet", folder: Folder = None, as_json: AsJson = False
) -> None:
    """One set of weights: where from, how it is checked, how images are prepared for it."""
    from cli.output import print_json, print_table

    store = _store(folder)
    source = _resolve(architecture, name, store)
    facts = {**source.to_dict(), "path": str(store.path_of(source)), "here": store.has(source)}
    if as_json:
        print_json(facts)
        return
    facts["checksum"] = source.checksum.describe()
    print_table(("", ""), ((key, _shown(value)) for key, value in facts.items()))


@app.command()
def pull(
    architecture: Architecture,
    name: Name = "imagenet",
    folder: Folder = None,
    url: Mirror = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Fetch weights into the weights folder, and check them. A broken download is continued the next time."""
    from cli.errors import CliError
    from cli.output import print_json
    from cli.transfer import Transfer
    from models.errors import WeightsCorrupt, WeightsNotFound
    from models.weights.store import WeightsStore

    source = _resolve(architecture, name, _store(folder))
    with Transfer(f"fetching {source.filename}", None) as shown:
        store = WeightsStore(_folder(folder), url, offline, lambda _, done, total: shown.reach(done, total))
        try:
            file = store.fetch(source)
        except (WeightsNotFound, WeightsCorrupt) as error:
            # The error names no folder, for it is also told to those who use Fovea from elsewhere.
            raise CliError(f"{error} The weights folder is {store.folder.absolute()}.") from error
    if as_json:
        print_json({**source.to_dict(), "path": str(file.path), "sha256": file.sha256,
                    "size_bytes": file.size_bytes, "verified_by": file.verified_by})  # fmt: skip
        return
    print(f"{file.path}\nsha256 {file.sha256}\nverified by {file.verified_by}")


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".safetensors, or .pth with tensors only.")],
    architecture: Annotated[str, typer.Option("--architecture", "-a", help="The network that the file is for.")],
    name: Annotated[str, typer.Option("--name", "-n", help="What to call the weights.")],
    labels: Annotated[
        Path | None, typer.Option(help="A text file with one label to a line, in the order of the outputs.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Under which licence they may be used.")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Take a file of your own into the weights folder, if it fits the architecture."""
    from cli.output import print_json
    from models.weights.importer import import_weights

    lines = tuple(labels.read_text("utf-8").splitlines()) if labels else ()
    source, report = import_weights(file, architecture, name, _store(folder), labels=lines, licence=licence)
    if as_json:
        print_json(source.to_dict())
        return
    print(f"{source.architecture} {source.name}: {report.describe()}, {source.num_classes} classes")


@app.command()
def verify(
    architecture: Annotated[str | None, typer.Argument(metavar="[ARCHITECTURE]")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Hash the files in the weights folder. Exit code 1 when one is not what it should be."""
    from dataclasses import asdict

    from cli.output import print_json, print_table
    from models.weights.inventory import verify_folder

    findings = verify_folder(_store(folder), architecture)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    elif not findings:
        print(f"no weights in {_folder(folder)}")
    else:
        print_table(("state", "file", ""), ((f.state, f.filename, f.detail) for f in findings))
    if any(finding.state == "corrupt" for finding in findings):
        raise typer.Exit(1)


def _folder(given: Path | None) -> Path:
    return given or Path(os.environ.get("FOVEA_DATA", "data")) / "weights"


def _store(folder: Path | None) -> "WeightsStore":
    from models.weights.store import WeightsStore

    return WeightsStore(_folder(folder))


def _sources(architecture: str | None, store: "WeightsStore") -> "list[WeightsSource]":
    """Without torch wherever the catalogue knows the answer."""
    from models.weights.inventory import all_imported, catalogue_sources

    if architecture and architecture.startswith("timm/"):
        from models.weights.published import sources

        return sources(architecture, store)
    imported = [s for s in all_imported(store.folder) if architecture in (None, s.architecture)]
    return [*catalogue_sources(architecture), *imported]


def _resolve(architecture: str, name: str, store: "WeightsStore") -> "WeightsSource":
    from models.weights.source import choose

    return choose(_sources(architecture, store), architecture, name)


def _accuracy(source: "WeightsSource") -> str:
    top1 = source.metrics.get("acc@1")
    return "" if top1 is None else f"{top1:.1f} %"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return "not stated" if value is None else str(value)


def _none_text(architecture: str | None, here: bool) -> str:
    whose = f" for {architecture}" if architecture else ""
    return f"no weights{whose} in the weights folder" if here else f"no weights are published{whose}"
