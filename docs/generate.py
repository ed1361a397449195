"""Writes the tables of the documentation that repeat the code: `python docs/generate.py [--check]`.

The map of the files in `ARCHITECTURE.md` from the first lines of the modules, the settings in `docs/operations.md`
from their fields, faults, requests and recipes in `docs/teach.md` and the options in `docs/upload.md` from theirs.
`--check` writes nothing and fails when a page is stale.
"""

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from models.dataset.report import ERRORS, FATAL, FaultCode
from models.training.recipe import PRESETS, Recipe
from models.uploaded.view import PreprocessingFields
from service.settings import GatewaySettings
from workers.contract.jobs.finetune import FinetuneRequest
from workers.contract.jobs.model_file import UploadOptions
from workers.settings import WorkerSettings

ROOT = Path(__file__).parent.parent
PAGES = ("ARCHITECTURE.md", "docs/operations.md", "docs/teach.md", "docs/upload.md")
SETTINGS = {"gateway": GatewaySettings, "workers": WorkerSettings}


def first_line(module: Path) -> str:
    """The first sentence of a module's docstring, as far as it stands on the first line."""
    docstring = ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""
    return docstring.partition("\n")[0].partition(". ")[0].rstrip(".")


def files(room: str) -> list[str]:
    """A table row for each module of a room; migrations are named by their revisions and are left out."""
    modules = (path.relative_to(ROOT / room) for path in (ROOT / room).rglob("*.py"))
    told = (path for path in modules if path.name != "__init__.py" and "versions" not in path.parts)
    rows = []
    for path in sorted(told, key=lambda path: (len(path.parts), path.as_posix())):
        folder = "" if path.parent == Path() else f"{path.parent.as_posix()}/"
        rows.append(f"| {folder}`{path.name}` | {first_line(ROOT / room / path)} |")
    return ["| file | what it is |", "|---|---|", *rows]


def settings() -> list[str]:
    """A table row for each setting that a process reads from its environment."""
    readers: dict[str, list[str]] = {}
    fields = {}
    for process, kind in SETTINGS.items():
        for name, field in kind.model_fields.items():
            readers.setdefault(name, []).append(process)
            fields[name] = field
    rows = []
    for name, field in fields.items():
        default = "" if field.default in (None, "") else f"`{field.default}`"
        rows.append(f"| `FOVEA_{name.upper()}` | {default} | {', '.join(readers[name])} | {field.description} |")
    return ["| variable | default | read by | what it does |", "|---|---|---|---|", *rows]


def faults() -> list[str]:
    """A table row for each way in which a dataset can be faulty."""
    rows = []
    for code in FaultCode:
        ends = "the dataset is refused" if code in FATAL else "the file is left out, or the dataset refused"
        rows.append(f"| `{code.value}` | {ends if code in ERRORS else 'told, no more'} |")
    return ["| fault | what happens |", "|---|---|", *rows]


def finetune() -> list[str]:
    """A table row for each field of a request to fine-tune and of its objects; recipes have their own table."""
    return ["| field | default | values | means |", "|---|---|---|---|", *_request_rows(FinetuneRequest)]


def upload() -> list[str]:
    """A table row for each option of a model file, and for each field of its preprocessing."""
    rows = list(_request_rows(UploadOptions))
    after = next(i for i, row in enumerate(rows) if row.startswith("| `preprocessing`")) + 1
    rows[after:after] = _request_rows(PreprocessingFields, "preprocessing.")
    return ["| field | default | values | means |", "|---|---|---|---|", *rows]


def _request_rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    schema = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        default = "" if field.is_required() else f"`{json.dumps(schema[name].get('default', {}))}`"
        yield f"| `{prefix}{name}` | {default} | {_values(schema[name])} | {field.description} |"
        if isinstance(field.default, BaseModel):
            yield from _request_rows(type(field.default), f"{prefix}{name}.")


def recipe() -> list[str]:
    """A table row for each field of a recipe: what it takes, what it means, and its value in every preset."""
    return [
        f"| field | values | {' | '.join(f'`{name}`' for name in PRESETS)} | means |",
        f"|---|---{'|---' * len(PRESETS)}|---|",
        *_recipe_rows(Recipe, {name: preset.model_dump() for name, preset in PRESETS.items()}),
    ]


def _recipe_rows(
    model: type[BaseModel], presets: Mapping[str, Mapping[str, Any]], prefix: str = ""
) -> Iterator[str]:
    schema = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        values = {preset: given[name] for preset, given in presets.items()}
        if isinstance(field.default, BaseModel):
            yield from _recipe_rows(type(field.default), values, f"{name}.")
            continue
        shown = " | ".join(f"`{json.dumps(value)}`" for value in values.values())
        yield f"| `{prefix}{name}` | {_values(schema[name])} | {shown} | {field.description} |"


def _values(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema takes, for people."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(_values(branch) for branch in schema["anyOf"] if branch.get("type") != "null")
    if "oneOf" in schema and any("const" in branch for branch in schema["oneOf"]):
        return " or ".join(_values(branch) for branch in schema["oneOf"])
    if schema.get("type") == "array":
        return "three numbers" if "prefixItems" in schema else "a list of texts"
    if "exclusiveMaximum" in schema:
        return f"{schema['minimum']:g} to {schema['exclusiveMaximum'] - 1}"
    if "maximum" in schema:
        return f"{schema['minimum']:g} to {schema['maximum']:g}"
    kinds = {"boolean": "`true`, `false`", "null": "null", "string": "a text"}
    return kinds.get(schema.get("type", ""), "an object" if "oneOf" not in schema else "a name or an object")


TABLES: dict[str, Callable[[], list[str]]] = {
    "settings": settings,
    "faults": faults,
    "finetune": finetune,
    "recipe": recipe,
    "upload": upload,
}


def filled(page: str) -> str:
    """The page with each table between `<!-- generated: NAME -->` and `<!-- end -->` written anew."""

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        rows = TABLES[name]() if name in TABLES else files(name)
        return "\n".join([f"<!-- generated: {name} -->", *rows, "<!-- end -->"])

    return re.sub(r"<!-- generated: (?P<name>[\w/]+) -->.*?<!-- end -->", table, page, flags=re.DOTALL)


def main() -> None:
    stale = []
    for name in PAGES:
        text = (ROOT / name).read_text("utf-8")
        if filled(text) == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            (ROOT / name).write_text(filled(text), "utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale)}; write them anew with make docs")


if __name__ == "__main__":
    main()
