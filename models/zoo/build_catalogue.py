"""Generates `catalogue.json` and `docs/zoo.md` from the registry and the libraries."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from models.layer_table import LayerRow
from models.summary import summarize_architecture
from models.weights.published import sources
from models.zoo import registry
from models.zoo.catalogue import FILE, Entry
from models.zoo.page import render
from models.zoo.timm_models import PREFIX

# The architectures of the lectures, whose layer tables are kept; the others' are computed when asked for.
CLASSIC = ("lenet5", "alexnet", "zfnet", "vgg", "nin", "maxout", "googlenet", "inception", "resnet", "mobilenet")
CLASSIC_TOO = ("convnet",)

LAYER_COLUMNS = (
    "name",
    "kind",
    "output",
    "kernel",
    "stride",
    "padding",
    "parameters",
    "memory_bytes",
    "multiply_adds",
    "receptive_field",
)


def write() -> None:
    """Writes both files where they belong in the repository."""
    package = Path(__file__).parent
    content = generate()
    (package / FILE).write_text(to_text(content), "utf-8")
    (package.parent.parent / "docs" / "zoo.md").write_text(render(content), "utf-8")


def generate() -> dict[str, Any]:
    """The whole catalogue; takes some minutes, most of them for timm's networks."""
    own = sorted((entry_of(name) for name in registry.names()), key=lambda e: (e["year"], e["family"], e["name"]))
    return {
        "versions": {library: version(library).partition("+")[0] for library in ("torch", "torchvision", "timm")},
        "layer_columns": list(LAYER_COLUMNS),
        "architectures": own + [timm_entry_of(name) for name in sorted(timm.list_models())],
    }


def to_text(content: dict[str, Any]) -> str:
    """JSON with a line to each architecture, so that a change shows where it is."""
    entries = ",\n".join(
        json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in content["architectures"]
    )
    head = {key: value for key, value in content.items() if key != "architectures"}
    return json.dumps(head, ensure_ascii=False)[:-1] + ',\n"architectures": [\n' + entries + "\n]}\n"


def entry_of(name: str) -> Entry:
    """A registered architecture with its totals at its own input size and its weights."""
    summary = summarize_architecture(name)
    return {
        **registry.get(name).to_dict(),
        "totals": summary.totals(),
        "weights": [source.to_dict() for source in sources(name)],
        "layers": [_row(layer) for layer in summary.layers] if is_classic(name) else None,
    }


def is_classic(name: str) -> bool:
    return name.startswith(CLASSIC) or name in CLASSIC_TOO


def timm_entry_of(plain: str) -> Entry:
    """A timm architecture: what timm says of it without running it, and its parameters."""
    name = PREFIX + plain
    entry = registry.get(name).to_dict()
    del entry["departures"], entry["parameters"]
    weights = [
        {"name": source.name, "default": source.default, "classes": source.num_classes, "licence": source.licence}
        for source in sources(name)
    ]
    return {
        **entry,
        "input": {"size": entry["input"]["size"], "fixed": entry["input"]["fixed"]},
        "totals": {"parameters": _timm_parameters(plain)},
        "weights": weights,
    }


def _timm_parameters(plain: str) -> int | None:
    """Counted with timm's own class count; None for the few that cannot be built without values."""
    try:
        with torch.device("meta"):
            network: nn.Module = timm.create_model(plain, pretrained=False)
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return None
    return sum(p.numel() for p in network.parameters())


def _row(layer: LayerRow) -> list[Any]:
    return [getattr(layer, column) for column in LAYER_COLUMNS]
