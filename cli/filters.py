"""`fovea models filters`: what the network of a version sees, as a table and as pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from fovea_client import Filters

FACTS = "filters.json"


def filters(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="NAME, NAME:VERSION or NAME@ALIAS; a name is what it serves.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--out", "-o", file_okay=False, help="Write the pictures and filters.json into this folder."),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """What its network sees: the first layer's kernels, and the patches that excite deeper filters most."""
    from cli.connection import connect
    from cli.output import print_json
    from cli.reference import resolve

    with connect(url, key) as client:
        name, number = resolve(client, model)
        found = client.models.filters(name, number)
        pictures = {
            picture: client.models.filters_picture(name, picture, number)
            for picture in (found.pictures if output else ())
        }
    if output:
        _write(output, found, pictures)
    print_json(found.to_dict()) if as_json else _print(found, output)


def _write(folder: Path, found: "Filters", pictures: dict[str, bytes]) -> None:
    import json

    from cli.errors import FileNotWritten
    from cli.output_file import output_file

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise FileNotWritten(f"{folder} cannot be made: {exc.strerror or exc}") from exc
    facts = json.dumps(found.to_dict(), indent=2, ensure_ascii=False).encode()
    for name, content in {FACTS: facts, **pictures}.items():
        # The server says the names; only their last part is one in this folder.
        with output_file(folder / Path(name).name) as file:
            file.write(content)


def _print(found: "Filters", folder: Path | None) -> None:
    from cli.output import print_table

    kernels = found.kernels
    if kernels["picture"]:
        size = "x".join(map(str, kernels["kernel"]))
        print(f"{kernels['layer']}: {kernels['count']} kernels of {size}, the first layer's")
    if found.layers:
        images = found.images or {}
        print(f"excited most among {images.get('shown')} of {images.get('of')} validation images:\n")
        rows = [
            (
                layer["name"],
                str(layer["channels"]),
                "x".join(map(str, layer["receptive_field"])),
                ", ".join(str(shown["filter"]) for shown in layer["filters"]),
            )
            for layer in found.layers
        ]
        print_table(("layer", "filters", "receptive field", "shown"), rows, right=("filters",))
    for reason in filter(None, (kernels.get("reason"), *found.left_out)):
        print(reason)
    if folder:
        print(f"\n{folder}: {FACTS}, {', '.join(found.pictures) or 'no pictures'}")
    elif found.pictures:
        print(f"\nsee them: fovea models filters {found.model}:{found.version} --out FOLDER")
