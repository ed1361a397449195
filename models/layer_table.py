"""The layer table of a network as values, text, Markdown and JSON. Knows no torch: `models.summary` fills it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

OUTSIDE = "matrix products that belong to no layer (attention)"


@dataclass(frozen=True)
class LayerRow:
    """One layer, in the order in which the layers run.

    `output` is its shape with the batch, in PyTorch's order [batch, channels, height, width]; None where the layer
    does not run by itself (auxiliary heads, and weights that a parent uses directly). `memory_bytes` is the
    output's, as float32; 0 where the layer works in place or only renames. `multiply_adds` are for the whole
    batch; normalisation, activations, pools and additions count as 0. `receptive_field` is height and width in
    pixels of the image, by theory, so it can exceed the image; None behind attention.
    """

    name: str
    kind: str
    output: tuple[int, ...] | None
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    padding: tuple[int, int] | None
    parameters: int
    memory_bytes: int
    multiply_adds: int
    receptive_field: tuple[int, int] | None


@dataclass(frozen=True)
class NetworkSummary:
    """A network's layer table and totals.

    `parameters` counts everything trainable, of which `auxiliary_parameters` serve in training only. Buffers
    (running means and variances) are not parameters. `multiply_adds` includes `outside_multiply_adds`: products
    that no layer stands for, as in attention. `input_bytes` is the image batch as float32; `memory_bytes` the sum
    of the layers' outputs, what a forward pass keeps for the backward one.
    """

    name: str
    input: tuple[int, int, int, int]
    layers: tuple[LayerRow, ...]
    parameters: int
    auxiliary_parameters: int
    input_bytes: int
    memory_bytes: int
    multiply_adds: int
    outside_multiply_adds: int

    def totals(self) -> dict[str, Any]:
        """Everything but the layers, as plain JSON types."""
        values = {name: value for name, value in asdict(self).items() if name != "layers"}
        return {**values, "input": list(self.input)}

    def to_dict(self) -> dict[str, Any]:
        return {**self.totals(), "layers": [asdict(layer) for layer in self.layers]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NetworkSummary":
        """What `to_dict` wrote."""
        totals = {field.name: values[field.name] for field in fields(cls) if field.name != "layers"}
        layers = tuple(_row_from(layer) for layer in values["layers"])
        return cls(**{**totals, "input": tuple(values["input"]), "layers": layers})

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1)

    def to_text(self) -> str:
        """A table in fixed columns, with the totals below."""
        rows = [COLUMNS, *(cells(layer) for layer in self.layers)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([line.rstrip() for line in lines] + ["", *self.totals_lines()])

    def to_markdown(self) -> str:
        lines = [f"| {' | '.join(row)} |" for row in (COLUMNS, *(cells(layer) for layer in self.layers))]
        lines.insert(1, "|" + " --- |" * len(COLUMNS))
        return "\n".join([*lines, "", *(f"- {line}" for line in self.totals_lines())])

    def totals_lines(self) -> list[str]:
        """What the whole network costs, in words."""
        batch, channels, height, width = self.input
        auxiliary = (
            f", of which {self.auxiliary_parameters:,} in training only" if self.auxiliary_parameters else ""
        )
        outside = f", of which {self.outside_multiply_adds:,} {OUTSIDE}" if self.outside_multiply_adds else ""
        return [
            f"input: {batch} x {channels} x {height} x {width} ({self.input_bytes:,} bytes as float32)",
            f"parameters: {self.parameters:,}{auxiliary}",
            f"activations: {self.memory_bytes:,} bytes",
            f"multiply-adds: {self.multiply_adds:,}{outside}",
        ]


COLUMNS = (
    "layer",
    "kind",
    "output",
    "kernel",
    "stride",
    "padding",
    "parameters",
    "memory (bytes)",
    "multiply-adds",
    "receptive field",
)


def _row_from(values: Mapping[str, Any]) -> LayerRow:
    """JSON has lists where a row has tuples."""
    kept: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return LayerRow(**kept)


def cells(layer: LayerRow) -> tuple[str, ...]:
    """The layer as text, in the order of `COLUMNS`; empty where there is nothing to say."""
    return (
        layer.name,
        layer.kind,
        "-" if layer.output is None else "x".join(map(str, layer.output)),
        _window(layer.kernel),
        _window(layer.stride),
        _window(layer.padding),
        f"{layer.parameters:,}",
        f"{layer.memory_bytes:,}",
        f"{layer.multiply_adds:,}",
        _window(layer.receptive_field),
    )


def _window(pair: tuple[int, int] | None) -> str:
    if pair is None:
        return ""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
