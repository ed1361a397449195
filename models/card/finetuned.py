"""The card of a fine-tuned version: how good it is, how it came to be, and what it should not be trusted with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact import Manifest
from models.card.blocks import (
    Block,
    CaptionedImage,
    CardPage,
    Caution,
    Details,
    Headline,
    ImageGrid,
    Paragraph,
    Plots,
    Scale,
    Table,
    fact_table,
    percent,
)
from models.card.facts import built_with, date_of, input_of, parity_of
from models.card.measured import MANY_CLASSES, by_class, confusions, few_images
from models.card.plots import confusion_overview, l2_curves, learning_curves, reliability_diagrams
from models.card.render import write_page
from models.card.settings import effective_settings
from models.findings.finding import Finding
from models.training.linear import Trial
from models.training.metrics import Metrics
from models.training.pixels import Pixels
from models.training.progress import EpochRecord


@dataclass(frozen=True)
class EarlierVersion:
    """An earlier version of the model, measured on the same validation images."""

    version: int
    architecture: str
    weights: str
    accuracy: float


def write_finetuned_card(
    folder: Path,
    manifest: Manifest,
    *,
    validation: Metrics,
    test: Metrics | None,
    history: Sequence[EpochRecord],
    trials: Sequence[Trial],
    pictures: Pixels,
    earlier: Sequence[EarlierVersion],
    findings: Sequence[Finding] = (),
) -> None:
    """Writes `card.md` and `card.html`; `pictures` are the images of the test split, or else of validation."""
    measured = test or validation
    page = CardPage(
        title=manifest.model,
        subtitle=f"{manifest.architecture} for {len(manifest.labels)} classes, {_started_from(manifest)}",
        facts=[
            ("Trained", date_of(manifest)),
            ("Dataset", _dataset_name(manifest)),
            ("Weights", str(manifest.weights.get("trained_sha256", ""))[:8]),
        ],
        headline=_headline(manifest, validation, test),
    )
    page.section("How good it is", *_results(manifest, validation, test))
    if earlier:
        page.section("Beside the model's other versions", *_comparison(manifest, validation, earlier))
    page.section("By class", *by_class(measured.classes), *few_images(measured.classes))
    page.section("What it confuses", *_confusions(measured))
    page.section("Its most confident mistakes", *_mistakes(measured, pictures))
    page.section("How far to trust its probabilities", *_calibration(manifest, validation))
    for finding in findings:
        if finding.blocks:
            page.section(finding.heading, *finding.blocks)
    page.section("How it was trained", *_training(manifest, history, trials))
    page.section("What it was trained on", *_data(manifest))
    page.section("Provenance", Details("To make it again", [_provenance(manifest)]))
    write_page(folder, page)


def _headline(manifest: Manifest, validation: Metrics, test: Metrics | None) -> Headline:
    measured = test or validation
    low, high = measured.accuracy_interval
    correct = round(measured.accuracy * measured.images)
    return Headline(
        value=percent(measured.accuracy),
        name=f"accuracy on {measured.images} {'test' if test else 'validation'} images",
        explanation=f"{correct} of {measured.images} are classified right. On images like these the accuracy lies "
        f"between {percent(low)} and {percent(high)} (Wilson's 95 % interval).",
        others=[
            ("Macro-F1", f"{measured.macro_f1:.3f}"),
            ("Cross-entropy", f"{measured.loss:.3f}"),
            ("Calibration error", f"{measured.calibration_error:.3f}"),
            ("Classes", str(len(manifest.labels))),
        ],
        scale=Scale(
            low,
            measured.accuracy,
            high,
            manifest.metrics["baseline_accuracy"],
            "always answering the most frequent class",
        ),
    )


def _results(manifest: Manifest, validation: Metrics, test: Metrics | None) -> list[Block]:
    columns = [("validation", validation), *([("test", test)] if test else [])]
    rows: list[tuple[str, list[str]]] = [
        ("Images", [str(m.images) for _, m in columns]),
        ("Accuracy", [percent(m.accuracy) for _, m in columns]),
        ("95 % interval", [" – ".join(map(percent, m.accuracy_interval)) for _, m in columns]),
    ]
    if len(manifest.labels) > 5:
        rows.append(("Top-5 accuracy", [percent(m.top5_accuracy) for _, m in columns]))
    rows += [
        ("Macro-F1", [f"{m.macro_f1:.4f}" for _, m in columns]),
        ("Cross-entropy", [f"{m.loss:.4f}" for _, m in columns]),
        ("Calibration error", [f"{m.calibration_error:.4f}" for _, m in columns]),
    ]
    if manifest.calibration["temperature"] != 1.0:
        uncalibrated = [f"{m.calibration_error_uncalibrated:.4f}" for _, m in columns]
        rows.append(("Calibration error before calibration", uncalibrated))
    had_a_say = (
        "The test images had no say in the training."
        if test
        else "The validation images had a say in the training (the temperature, and the best epoch where there "
        "are several), so this is a little flattering."
    )
    return [
        Table(["", *(name for name, _ in columns)], [[name, *values] for name, values in rows], numbers_from=1),
        Paragraph(
            "Always answering the most frequent class would reach "
            f"{percent(manifest.metrics['baseline_accuracy'])}. {had_a_say}"
        ),
    ]


def _comparison(manifest: Manifest, validation: Metrics, earlier: Sequence[EarlierVersion]) -> list[Block]:
    rows = [[f"version {e.version}", e.architecture, e.weights, percent(e.accuracy)] for e in earlier]
    rows.append(["this one", manifest.architecture, _origin(manifest), percent(validation.accuracy)])
    return [
        Paragraph(f"All were measured on the same {validation.images} validation images."),
        Table(["", "architecture", "started from", "accuracy"], rows, numbers_from=3),
    ]


def _confusions(metrics: Metrics) -> list[Block]:
    labels = [c.label for c in metrics.classes]
    counts = np.array(metrics.confusion_matrix)
    if len(labels) <= MANY_CLASSES:
        return confusions(labels, counts)
    overview = Plots(
        confusion_overview(metrics), "Rows are true classes, columns answers; shades are shares of the row."
    )
    return [overview, *confusions(labels, counts)]


def _mistakes(metrics: Metrics, pixels: Pixels) -> list[Block]:
    if not metrics.worst:
        return [Paragraph("It made none on these images.")]
    return [
        ImageGrid(
            [
                CaptionedImage(
                    pixels[m.index], f"{m.predicted}, {percent(m.probability)}", f"truly {m.truth}", m.name
                )
                for m in metrics.worst
            ]
        )
    ]


def _calibration(manifest: Manifest, validation: Metrics) -> list[Block]:
    found = manifest.calibration
    applied = found["temperature"] != 1.0
    plots = reliability_diagrams(validation, calibrated=applied)
    caption = (
        "Reliability on the validation images: on the line, an answer of 80 % is right in 80 of 100; "
        "the areas of the dots are counts."
    )
    return [_calibration_text(found, validation.images), Plots(plots, caption)]


def _calibration_text(found: dict[str, Any], images: int) -> Block:
    before, fitted, temperature = found["error_before"], found["error_fitted"], found["fitted_temperature"]
    if found["temperature"] != 1.0:
        return Paragraph(
            f"Logits are divided by a temperature of {temperature:.3f}, fitted on the {images} validation images. "
            f"It took the calibration error there from {before:.3f} to {fitted:.3f}: of 100 answers of 80 %, "
            "about 80 should be right."
        )
    validated = found["loss_cross_validated"]
    if validated is None:
        return Caution(
            "With one validation image there is nothing to calibrate on: probabilities are the network's own."
        )
    reason = (
        f"raised the calibration error from {before:.3f} to {fitted:.3f}"
        if fitted > before
        else f"not helped on images that it was not fitted on (cross-entropy {validated:.3f}, without it "
        f"{found['loss_before']:.3f})"
    )
    return Caution(
        f"Calibration was tried and not used: a temperature of {temperature:.3f}, fitted on the {images} "
        f"validation images, would have {reason}. The temperature stays 1: probabilities are the network's own."
    )


def _training(manifest: Manifest, history: Sequence[EpochRecord], trials: Sequence[Trial]) -> list[Block]:
    recipe: dict[str, Any] = manifest.recipe or {}
    blocks: list[Block] = [Paragraph(f"Strategy {recipe['strategy']}: {recipe['strategy_reason']}")]
    found = _regression(manifest)
    if found is not None:
        views = "with" if found["augmented"] else "without"
        chosen = (
            f"Cross-validation on the training images chose an L2 penalty of {found['l2']:.3g}, {views} augmented "
            "views of the images."
            if trials
            else f"There were too few images to cross-validate its L2 penalty, which is {found['l2']:.3g}."
        )
        blocks.append(Paragraph(f"The head is a logistic regression on the frozen features. {chosen}"))
        best = [t for t in trials if (t.l2, t.augmented) == (found["l2"], found["augmented"])]
        if best:
            blocks.append(Plots(l2_curves(trials, best[0]), "Cross-validation on the training images."))
    if len(history) > 1:
        best_epoch, stopped = manifest.metrics["best_epoch"], manifest.metrics["stopped"]
        why = {"epochs": "all epochs were run", "patience": "nothing improved any more"}.get(stopped, stopped)
        blocks += [
            Paragraph(f"{len(history)} epochs were run ({why}); the weights are those after epoch {best_epoch}."),
            Plots(learning_curves(history, best_epoch), "Learning curves."),
        ]
    return blocks


def _data(manifest: Manifest) -> list[Block]:
    dataset: dict[str, Any] = manifest.dataset or {}
    split = dataset["split"]
    parts = ("train", "validation", "test")
    rows = [[label, *(str(split[part][label]) for part in parts)] for label in manifest.labels]
    total = ["all", *(str(sum(split[part].values())) for part in parts)]
    origin = "came with the dataset" if split["origin"] == "given" else f"is {split['origin']}"
    header = ["class", "training", "validation", "test"]
    name = _dataset_name(manifest)
    named = name if name == dataset["id"] else f"“{name}” ({dataset['id']})"
    text = Paragraph(f"Dataset {named}; the split into these images {origin}.")
    if len(rows) <= MANY_CLASSES:
        return [text, Table(header, [*rows, total], numbers_from=1)]
    folded = Details(f"All {len(rows)} classes", [Table(header, rows, numbers_from=1)])
    return [text, Table(header, [total], numbers_from=1), folded]


def _provenance(manifest: Manifest) -> Table:
    recipe: dict[str, Any] = manifest.recipe or {}
    weights = manifest.weights
    return fact_table(
        {
            "recipe": str(recipe["name"]),
            **effective_settings(manifest),
            "seed": str(manifest.seed),
            "input": input_of(manifest),
            "weights it started from": _origin(manifest),
            "sha256 of those": str(weights.get("sha256") or "–"),
            "licence of those": str(weights.get("licence") or "–"),
            "sha256 of its own": str(weights.get("trained_sha256")),
            "content hash of the dataset": str((manifest.dataset or {})["content_hash"]),
            "ONNX against PyTorch": parity_of(manifest),
            "made with": built_with(manifest),
            "made": manifest.created_at,
        }
    )


def _regression(manifest: Manifest) -> dict[str, Any] | None:
    found: dict[str, Any] | None = (manifest.recipe or {}).get("logistic_regression")
    return found


def _dataset_name(manifest: Manifest) -> str:
    dataset = manifest.dataset or {}
    return str(dataset.get("name") or dataset.get("id"))


def _started_from(manifest: Manifest) -> str:
    origin = _origin(manifest)
    return "trained from scratch" if origin == "no weights" else f"started from {origin}"


def _origin(manifest: Manifest) -> str:
    weights = manifest.weights
    if weights.get("origin") == "model":
        return f"{weights['model']}:{weights['version']} ({len(weights['labels_kept'])} labels kept)"
    name = weights.get("name") or weights.get("origin")
    return "no weights" if name in (None, "none") else f"{name} ({weights.get('origin')})"
