"""The zoo as a list: answers from `catalogue.json`, in milliseconds and without torch.

`python -m models.zoo.catalogue --write` generates the file and `docs/zoo.md` anew from the registry.
"""

import argparse
import difflib
import functools
import importlib
import importlib.resources
import json
from typing import Any

from models.errors import UnknownArchitecture
from models.uploaded.kind import ONNX_ARCHITECTURE
from models.validation import shortened

FILE = "catalogue.json"
Entry = dict[str, Any]


@functools.cache
def catalogue() -> dict[str, Any]:
    """The whole file: `versions` of the libraries that it was generated with, and `architectures`."""
    text = importlib.resources.files("models.zoo").joinpath(FILE).read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def list_architectures(search: str | None = None) -> list[Entry]:
    """Every architecture without its layers, oldest first, timm's last.

    `search` keeps those in whose name, family, source, year or paper every one of its words occurs.
    """
    words = (search or "").lower().split()
    return [
        {key: value for key, value in entry.items() if key != "layers"}
        for entry in catalogue()["architectures"]
        if all(word in _searched(entry) for word in words)
    ]


def describe(name: str) -> Entry:
    """One architecture; `layers` is its table at its own input size, or None where only totals are kept.

    Raises UnknownArchitecture with the nearest names.
    """
    found = _by_name().get(name)
    if name == ONNX_ARCHITECTURE:
        raise UnknownArchitecture(
            f"{name!r} is what versions of uploaded ONNX files have instead of an architecture, which such a file "
            "does not say: there is nothing of that name to build, to train or to fetch weights for"
        )
    if found is None:
        shown = shortened(name)
        near = difflib.get_close_matches(shown, list(_by_name()), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnknownArchitecture(f"no architecture is called {shown!r}{hint}")
    columns = catalogue()["layer_columns"]
    rows = found.get("layers")
    return {**found, "layers": rows and [dict(zip(columns, row, strict=True)) for row in rows]}


@functools.cache
def _by_name() -> dict[str, Entry]:
    return {entry["name"]: entry for entry in catalogue()["architectures"]}


def _searched(entry: Entry) -> str:
    paper = (entry["paper"] or {}).get("title", "")
    return f"{entry['name']} {entry['family']} {entry['source']} {entry['year'] or ''} {paper}".lower()


def main() -> None:
    """Checks or writes the generated files."""
    parser = argparse.ArgumentParser(prog="python -m models.zoo.catalogue", description=__doc__)
    parser.add_argument("--write", action="store_true", help="generate catalogue.json and docs/zoo.md")
    if parser.parse_args().write:
        # By name, because this module promises to be free of torch and the generator needs it.
        importlib.import_module("models.zoo.build_catalogue").write()
    else:
        parser.print_help()


if __name__ == "__main__":
    main()
