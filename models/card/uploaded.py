"""The card of an uploaded ONNX file: what it is, who says so, how it was proven, what nobody knows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.artifact import Manifest
from models.card.blocks import Bullets, CardPage, Cell, Paragraph, Table, fact_table
from models.card.facts import built_with, date_of, input_blocks, label_blocks, parity_of
from models.card.render import write_page
from models.findings.finding import Finding
from models.unknown.card import HEADING, published_blocks

SAID_BY = {
    "given": "who uploaded it",
    "metadata": "the file's own metadata",
    "imagenet": "who uploaded it: ImageNet's",
}
LAYOUTS = {
    "nchw": "float32 [batch, channels, height, width]",
    "nhwc": "float32 [batch, height, width, channels]",
    "pixels": "uint8 [batch, height, width, 3]",
}


def write_uploaded_card(folder: Path, manifest: Manifest, findings: Sequence[Finding] = ()) -> None:
    """Writes `card.md` and `card.html`."""
    weights = manifest.weights
    page = CardPage(
        title=manifest.model,
        subtitle=f"an uploaded ONNX file, {len(manifest.labels)} classes; nothing was trained or measured here",
        facts=[
            ("Uploaded", date_of(manifest)),
            ("Trained on", str(weights.get("trained_on") or "unknown")),
            ("File", str(weights.get("sha256", ""))[:8]),
        ],
    )
    page.section("What is not known", Bullets(_unknowns(manifest)))
    page.section("Where it comes from", _provenance(weights))
    page.section("What it expects", *input_blocks(manifest))
    page.section("What it answers", *label_blocks(manifest))
    page.section(HEADING, *published_blocks())
    page.section("How it is built", *_graph(weights["graph"]))
    for finding in findings:
        page.section(finding.heading, *finding.blocks)
    page.section(
        "How it was proven",
        Paragraph(
            "Before it was published, the graph that is served was compared with the file as it was sent, which "
            "was "
            "run one image at a time."
        ),
        fact_table(
            {
                "what is served against the file": parity_of(manifest),
                "made with": built_with(manifest),
                "made": manifest.created_at,
            }
        ),
    )
    write_page(folder, page)


def _unknowns(manifest: Manifest) -> list[str]:
    said = SAID_BY.get(manifest.weights["graph"]["preprocessing_from"], "nobody")
    unknown = [
        "How good it is: nothing was measured. Classify some images whose answers you know.",
        f"Whether images are prepared as the network was trained: that is said by {said}, and nothing can prove "
        "it.",
        "Which architecture it is: an ONNX file does not say. It can be served, but not trained any further here.",
        "Whether an image shows any of its classes at all: it always answers with one of them.",
    ]
    if manifest.calibration.get("temperature") == 1.0:
        unknown.append("How far to trust its probabilities: calibration was not fitted, and the temperature is 1.")
    if not manifest.weights.get("licence"):
        unknown.append("Under which licence it is: none was given.")
    return unknown


def _provenance(weights: dict[str, Any]) -> Table:
    graph = weights["graph"]
    known: dict[str, Cell] = {
        "file": str(weights["filename"]),
        "bytes": f"{weights['size_bytes']:,}",
        "sha256": str(weights["sha256"]),
        "written by": str(graph["producer"] or "unknown"),
        "trained on": str(weights.get("trained_on") or "unknown"),
        "licence": str(weights.get("licence") or "unknown"),
        "labels said by": SAID_BY[graph["labels_from"]],
        "preprocessing said by": SAID_BY[graph["preprocessing_from"]],
    }
    return fact_table(known)


def _graph(graph: dict[str, Any]) -> list[Table]:
    given = graph["input"]
    operators = ", ".join(f"{count} {name}" for name, count in graph["operators"].items())
    return [
        fact_table(
            {
                "input": LAYOUTS[given["layout"]],
                "batch": "as many as wanted" if given["batch"] is None else f"{given['batch']}, made free",
                "output": f"{graph['output']}: {graph['values']}, told by {graph['values_told_by']}",
                "nodes": f"{graph['nodes']:,}",
                "operators": operators,
                "parameters": f"{graph['parameters']:,}",
                "opset": str(graph["opset"]),
            }
        )
    ]
