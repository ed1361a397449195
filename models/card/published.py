"""The card of published weights served as they are: where they come from, what they take, what is not known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from models.artifact import Manifest
from models.card.blocks import (
    Block,
    Bullets,
    CardPage,
    Cell,
    Details,
    Headline,
    Link,
    Paragraph,
    Table,
    fact_table,
)
from models.card.facts import built_with, date_of, input_blocks, label_blocks, parity_of
from models.card.render import write_page
from models.errors import InvalidArchitecture
from models.findings.finding import Finding
from models.layer_table import COLUMNS, NetworkSummary, cells
from models.summary import summarize
from models.unknown.card import HEADING, published_blocks
from models.zoo.architecture import Architecture
from models.zoo.registry import built

# How publishers call the share of images whose first answer, or one of the first five, is right.
TOP1, TOP5 = "acc@1", "acc@5"
# What weights are called that no publisher vouches for, by their origin.
OWN = {"file": "imported", "upload": "uploaded"}
NUMBERS_FROM = COLUMNS.index("parameters")


def write_published_card(
    folder: Path, manifest: Manifest, network: nn.Module, findings: Sequence[Finding] = ()
) -> None:
    """Writes `card.md` and `card.html` for the network that `models.zoo.registry.build` made for these weights."""
    architecture = built(network).architecture
    weights = manifest.weights
    page = CardPage(
        title=manifest.model,
        subtitle=f"{manifest.architecture} with {OWN.get(str(weights.get('origin')), 'published')} weights, "
        f"{len(manifest.labels)} classes; nothing was trained here",
        facts=[
            ("Published", date_of(manifest)),
            ("Trained on", str(weights.get("trained_on") or "unknown")),
            ("Weights", str(weights.get("sha256", ""))[:8]),
        ],
        headline=_headline(weights),
    )
    page.section("What is not known", Bullets(_unknowns(manifest)))
    page.section("Where it comes from", _provenance(manifest, architecture))
    page.section("What it expects", *input_blocks(manifest))
    page.section("What it answers", *label_blocks(manifest))
    page.section(HEADING, *published_blocks())
    page.section("How it is built", *_layers(network, manifest, architecture))
    for finding in findings:
        page.section(finding.heading, *finding.blocks)
    page.section("How it was proven", *_proof(manifest))
    write_page(folder, page)


def _headline(weights: dict[str, Any]) -> Headline | None:
    metrics: dict[str, float] = weights.get("metrics") or {}
    if TOP1 not in metrics:
        return None
    others = [("Top-5 accuracy, as stated", f"{metrics[TOP5]:.1f} %")] if TOP5 in metrics else []
    return Headline(
        value=f"{metrics[TOP1]:.1f} %",
        name=f"top-1 accuracy on {weights.get('trained_on')}, as its publishers state it",
        explanation="Their figure, on their test images, with their preprocessing. It was not measured here.",
        others=others,
        own=False,
    )


def _unknowns(manifest: Manifest) -> list[str]:
    weights = manifest.weights
    unknown = [
        "How good it is on your images: nothing was measured. Classify some whose answers you know.",
        "How far to trust its probabilities: calibration was not fitted, and the temperature is 1.",
        "Whether an image shows any of its classes at all: it always answers with one of them.",
    ]
    if TOP1 not in (weights.get("metrics") or {}):
        unknown.insert(0, "How accurate it is on the images of its publishers: no figure came with the weights.")
    if not weights.get("licence"):
        unknown.append("Under which licence the weights are: none came with them.")
    return unknown


def _provenance(manifest: Manifest, architecture: Architecture) -> Table:
    weights, paper = manifest.weights, architecture.paper
    known: dict[str, Cell] = {"architecture": f"{architecture.name} ({architecture.family})"}
    if paper is not None:
        known |= {"paper": f"{paper.title} ({paper.year})", "paper's page": Link(paper.url)}
    known |= {
        "weights": f"{weights.get('name') or weights.get('filename')} ({weights.get('origin')})",
        "trained on": str(weights.get("trained_on") or "unknown"),
        "licence": str(weights.get("licence") or "unknown"),
        "file": str(weights.get("filename")),
    }
    if weights.get("url"):
        known["published at"] = Link(str(weights["url"]))
    known |= {"sha256": str(weights.get("sha256")), "verified by": str(weights.get("verified_by") or "nothing")}
    for metric, value in (weights.get("metrics") or {}).items():
        known[f"{metric}, as published"] = f"{value:g} %"
    if weights.get("notes"):
        known["notes"] = " ".join(weights["notes"])
    return fact_table(known)


def _layers(network: nn.Module, manifest: Manifest, architecture: Architecture) -> list[Block]:
    departures: list[Block] = []
    if architecture.departures:
        departures = [Paragraph("Where it differs from the paper:"), Bullets(architecture.departures)]
    try:
        summary = summarize(network, manifest.preprocessing.height)
    except (InvalidArchitecture, RuntimeError) as exc:
        # A table is no reason not to serve: among timm's 1,400 networks some cannot run without values.
        return [*departures, Paragraph(f"Its layer table could not be made: {exc}")]
    rows = [list(cells(layer)) for layer in summary.layers]
    table = Table(COLUMNS, rows, numbers_from=NUMBERS_FROM, dense=True)
    return [_totals(summary), *departures, Details(f"All {len(rows)} layers", [table])]


def _totals(summary: NetworkSummary) -> Table:
    _, channels, height, width = summary.input
    return fact_table(
        {
            "layers": f"{len(summary.layers)}",
            "parameters": f"{summary.parameters:,}",
            "multiply-adds": f"{summary.multiply_adds:,} for an image of {channels}x{height}x{width}",
            "activations": f"{summary.memory_bytes:,} bytes as float32",
        }
    )


def _proof(manifest: Manifest) -> list[Block]:
    return [
        Paragraph("Before it was published, the exported graph was compared with PyTorch's network."),
        fact_table(
            {
                "ONNX against PyTorch": parity_of(manifest),
                "made with": built_with(manifest),
                "made": manifest.created_at,
            }
        ),
    ]
