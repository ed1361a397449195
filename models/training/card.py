"""The card of a version: how good it is, how it came to be, and what it should not be trusted with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact import Manifest
from models.training.data import Pixels
from models.training.document import Document, Paragraph, Picture, Pictures, Plot, Table
from models.training.linear import Trial
from models.training.metrics import Metrics
from models.training.plots import confusion_matrix, l2_curves, learning_curves, reliability_diagram
from models.training.progress import EpochRecord

MARKDOWN, HTML = "card.md", "card.html"
# Below it a class's figures say little: one image more or less moves them by percents.
FEW = 20


@dataclass(frozen=True)
class Sibling:
    """An earlier version of the model, measured on the same validation images."""

    version: int
    architecture: str
    weights: str
    accuracy: float


def write_card(
    folder: Path,
    manifest: Manifest,
    *,
    validation: Metrics,
    test: Metrics | None,
    history: Sequence[EpochRecord],
    trials: Sequence[Trial],
    pictures: Pixels,
    siblings: Sequence[Sibling],
) -> None:
    """Writes `card.md` and `card.html`; `pictures` are the images of the test split, or else of validation."""
    judged = test or validation
    page = Document(f"{manifest.model}: {manifest.architecture}, {len(manifest.labels)} classes")
    page.section("How good it is", *_verdict(manifest, validation, test))
    if siblings:
        page.section("Beside the model's other versions", *_siblings(manifest, validation, siblings))
    page.section("By class", _classes(judged), *_warnings(judged))
    page.section(
        "What it confuses",
        Plot(confusion_matrix(judged), "Confusion matrix: rows are true classes, columns are answers."),
        _confused(judged),
    )
    page.section("Its surest mistakes", *_mistakes(judged, pictures))
    page.section(
        "How sure it is",
        Paragraph(
            f"Probabilities are calibrated by a temperature of {manifest.calibration['temperature']:.3f}, "
            "fitted on the validation images: among answers of 0.8, about 80 % should be right."
        ),
        Plot(reliability_diagram(validation), "Reliability on the validation images; the area is the count."),
    )
    page.section("How it learnt", *_learning(manifest, history, trials))
    page.section("What it learnt from", *_data(manifest))
    page.section("To make it again", _facts(manifest))
    (folder / MARKDOWN).write_text(page.markdown(), encoding="utf-8")
    (folder / HTML).write_text(page.html(), encoding="utf-8")


def _verdict(manifest: Manifest, validation: Metrics, test: Metrics | None) -> list[Paragraph | Table]:
    columns = [("validation", validation), *([("test", test)] if test else [])]
    lines: list[tuple[str, list[str]]] = [
        ("Images", [str(e.images) for _, e in columns]),
        ("Accuracy", [_percent(e.accuracy) for _, e in columns]),
        *(
            [("Top-5 accuracy", [_percent(e.top5_accuracy) for _, e in columns])]
            if len(manifest.labels) > 5
            else []
        ),
        ("Macro-F1", [f"{e.macro_f1:.4f}" for _, e in columns]),
        ("Cross-entropy", [f"{e.loss:.4f}" for _, e in columns]),
        ("Calibration error, before", [f"{e.calibration_error_uncalibrated:.4f}" for _, e in columns]),
        ("Calibration error, after", [f"{e.calibration_error:.4f}" for _, e in columns]),
    ]
    judged = test or validation
    margin = 1.96 * (judged.accuracy * (1 - judged.accuracy) / judged.images) ** 0.5
    baseline = manifest.metrics["baseline_accuracy"]
    which = (
        "The test images had no say in the training."
        if test
        else "The validation images had a say in the training (the temperature, and the best epoch where there "
        "are several), so this is a little flattering."
    )
    return [
        Table(["", *(name for name, _ in columns)], [[name, *values] for name, values in lines]),
        Paragraph(
            f"{judged.images} images fix the accuracy to about ±{100 * margin:.1f} points (95 %). Always "
            f"answering the most frequent class would reach {_percent(baseline)}. {which}"
        ),
    ]


def _siblings(manifest: Manifest, validation: Metrics, siblings: Sequence[Sibling]) -> list[Paragraph | Table]:
    rows = [[f"version {s.version}", s.architecture, s.weights, _percent(s.accuracy)] for s in siblings]
    rows.append(["this one", manifest.architecture, _started_from(manifest), _percent(validation.accuracy)])
    return [
        Paragraph(f"All were measured on the same {validation.images} validation images."),
        Table(["", "architecture", "started from", "accuracy"], rows),
    ]


def _classes(evaluation: Metrics) -> Table:
    def figure(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    return Table(
        ["class", "precision", "recall", "F1", "images"],
        [
            [s.label, figure(s.precision), figure(s.recall), figure(s.f1), str(s.support)]
            for s in evaluation.classes
        ],
    )


def _warnings(evaluation: Metrics) -> list[Paragraph]:
    few = [score.label for score in evaluation.classes if score.support < FEW]
    if not few:
        return []
    return [
        Paragraph(
            f"Fewer than {FEW} images stand behind the figures of {_listed(few)}: take them as a rough guide."
        )
    ]


def _confused(evaluation: Metrics) -> Table | Paragraph:
    counts = np.array(evaluation.confusion_matrix)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:10]
    pairs = [divmod(int(place), len(counts)) for place in order]
    labels = [score.label for score in evaluation.classes]
    rows = [[labels[t], labels[p], str(counts[t, p])] for t, p in pairs if counts[t, p]]
    return Table(["truth", "answer", "images"], rows) if rows else Paragraph("Nothing: every answer was right.")


def _mistakes(evaluation: Metrics, pixels: Pixels) -> list[Paragraph | Pictures]:
    if not evaluation.worst:
        return [Paragraph("It made none on these images.")]
    return [
        Pictures(
            [
                Picture(pixels[m.index], f"{m.name}: {m.predicted} ({_percent(m.probability)}), truly {m.truth}")
                for m in evaluation.worst
            ]
        )
    ]


def _learning(
    manifest: Manifest, history: Sequence[EpochRecord], trials: Sequence[Trial]
) -> list[Paragraph | Plot | Table]:
    recipe: dict[str, Any] = manifest.recipe or {}
    blocks: list[Paragraph | Plot | Table] = [
        Paragraph(
            f"Strategy {recipe['strategy']}. {recipe['strategy_reason']} Started from {_started_from(manifest)}."
        )
    ]
    found = recipe["logistic_regression"]
    if trials:
        blocks += [
            Paragraph(
                "The head is a logistic regression on the frozen features. Cross-validation on the training "
                f"images chose a penalty of {found['l2']:.3g}, "
                + ("with" if found["augmented"] else "without")
                + " variations of the images."
            ),
            Plot(l2_curves(trials, found["l2"]), "Cross-validation on the training images."),
        ]
    if len(history) > 1:
        best, stopped = manifest.metrics["best_epoch"], manifest.metrics["stopped"]
        why = {"epochs": "all epochs were run", "patience": "nothing improved any more"}.get(stopped, stopped)
        blocks += [
            Paragraph(f"{len(history)} epochs were run ({why}); the weights are those after epoch {best}."),
            Plot(learning_curves(history, best), "Learning curves."),
        ]
    return blocks


def _data(manifest: Manifest) -> list[Paragraph | Table]:
    dataset: dict[str, Any] = manifest.dataset or {}
    split = dataset["split"]
    return [
        Paragraph(f"Dataset {dataset['id']}; the split is {split['origin']}."),
        Table(
            ["class", "training", "validation", "test"],
            [
                [label, *(str(split[part][label]) for part in ("train", "validation", "test"))]
                for label in manifest.labels
            ],
        ),
    ]


def _facts(manifest: Manifest) -> Table:
    recipe: dict[str, Any] = manifest.recipe or {}
    parity = manifest.parity
    view = manifest.preprocessing
    varied = {name: value for name, value in recipe["augmentation"].items() if value}
    batches = ", ".join(map(str, parity["batch_sizes"]))
    facts = {
        "seed": manifest.seed,
        "recipe": recipe["name"],
        **{
            name: value
            for name, value in recipe.items()
            if not isinstance(value, dict) and name not in ("name", "strategy", "strategy_reason")
        },
        "augmentation": ", ".join(f"{name} {value}" for name, value in varied.items()),
        "input": f"{view.height}x{view.width}, {view.fit} from {view.resize}, {view.interpolation}",
        "weights it started from": _started_from(manifest),
        "sha256 of those": manifest.weights.get("sha256") or "–",
        "licence of those": manifest.weights.get("licence") or "–",
        "sha256 of its own": manifest.weights.get("trained_sha256"),
        "content hash of the dataset": (manifest.dataset or {})["content_hash"],
        "ONNX against torch": f"{parity['agreement']:.0%} of {parity['images']} images agree at batch {batches}; "
        f"largest difference of a logit {parity['max_abs_diff']:.2g}",
        **manifest.software,
        "made": manifest.created_at,
    }
    return Table(["", ""], [[str(name), str(value)] for name, value in facts.items()])


def _started_from(manifest: Manifest) -> str:
    weights = manifest.weights
    if weights.get("origin") == "model":
        return f"{weights['model']}:{weights['version']} ({len(weights['labels_kept'])} labels kept)"
    name = weights.get("name") or weights.get("origin")
    return "no weights" if name in (None, "none") else f"{name} ({weights.get('origin')})"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:8]) + (f" and {len(labels) - 8} more classes" if len(labels) > 8 else "")
