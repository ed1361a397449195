"""The artifact of a fine-tune: graph, weights to learn on from, card and manifest in one folder."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from models.artifact import MODEL, Manifest, software_versions
from models.card.finetuned import EarlierVersion, write_finetuned_card
from models.dataset.folder import DatasetFolder
from models.export import to_onnx
from models.parity import ParityReport, check_parity
from models.training.checkpoint import detached, weights_sha256
from models.training.data import Plan
from models.training.digits import BUILTIN
from models.training.linear import Head
from models.training.strategy import Choice
from storage.errors import NotFound
from workers.training.context import Context
from workers.training.figures import Figures
from workers.training.images import Images
from workers.training.learning import Learnt
from workers.training.request import FinetuneRequest
from workers.training.starting import STATE, Start

PARITY_IMAGES = 64
EARLIER_VERSIONS = 100


@dataclass(frozen=True)
class Work:
    """All that a fine-tune knew, made and found out."""

    request: FinetuneRequest
    dataset: DatasetFolder
    division: Plan
    images: Images
    start: Start
    choice: Choice
    learnt: Learnt
    figures: Figures


def export_model(context: Context, work: Work) -> Path:
    """A fresh folder with the graph in it. Raises ExportFailed."""
    folder = context.artifact_folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    to_onnx(
        work.start.network.cpu().eval(),
        folder / MODEL,
        preprocessing=work.start.preprocessing,
        labels=work.division.labels,
        temperature=work.figures.temperature,
    )
    return folder


def verify_model(folder: Path, work: Work) -> ParityReport:
    """The parity gate, on real validation images. Raises ExportMismatch with the numbers."""
    available = len(work.images.validation)
    some = np.linspace(0, available - 1, min(PARITY_IMAGES, available)).round().astype(int)
    return check_parity(
        work.start.network,
        folder / MODEL,
        work.images.validation.array[some],
        preprocessing=work.start.preprocessing,
        temperature=work.figures.temperature,
    )


def write_artifact(context: Context, work: Work, folder: Path, parity: ParityReport) -> Manifest:
    """Adds weights and card to the folder; the manifest that describes it all, not yet written."""
    state = detached(dict(work.start.network.state_dict()))
    save_file(state, folder / STATE)
    manifest = _manifest(work, parity, weights_sha256(state), _dataset_name(context, work.request.dataset))
    write_finetuned_card(
        folder,
        manifest,
        validation=work.figures.validation,
        test=work.figures.test,
        history=work.learnt.outcome.history,
        trials=work.learnt.head.trials if work.learnt.head else (),
        pictures=work.images.test if work.figures.test else work.images.validation,
        earlier=_earlier_versions(context, work),
    )
    return manifest


def _manifest(work: Work, parity: ParityReport, state_sha256: str, dataset_name: str) -> Manifest:
    request, figures, outcome = work.request, work.figures, work.learnt.outcome
    return Manifest(
        model=request.model,
        labels=work.division.labels,
        preprocessing=work.start.preprocessing,
        architecture=request.architecture,
        architecture_params=work.start.architecture_params,
        weights={**work.start.provenance, "trained_sha256": state_sha256},
        dataset={
            "id": request.dataset,
            "name": dataset_name,
            "content_hash": work.dataset.content_hash,
            "split": work.division.describe(),
            "validation_hash": work.division.validation.content_hash,
        },
        recipe={
            **request.recipe.to_dict(),
            "name": request.recipe_name,
            "strategy": work.choice.strategy,
            "strategy_asked": request.strategy,
            "strategy_reason": work.choice.reason,
            "logistic_regression": _regression(work.learnt.head),
        },
        seed=request.seed,
        software=software_versions(),
        metrics={
            **figures.summary(),
            "validation": figures.validation.details(),
            "test": figures.test.details() if figures.test else None,
            "history": [dataclasses.asdict(record) for record in outcome.history],
            "best_epoch": outcome.best_epoch,
            "stopped": outcome.stopped,
        },
        calibration={
            **dataclasses.asdict(figures.calibration),
            "error_after": figures.validation.calibration_error,
        },
        parity=parity.to_dict(),
    )


def _dataset_name(context: Context, dataset_id: str) -> str:
    return dataset_id if dataset_id == BUILTIN else context.shelf.get(dataset_id).name


def _regression(head: Head | None) -> dict[str, Any] | None:
    """How the head was found where it is a logistic regression on frozen features."""
    if head is None:
        return None
    return {
        "l2": head.l2,
        "augmented": head.augmented,
        "trials": [dataclasses.asdict(trial) for trial in head.trials],
    }


def _earlier_versions(context: Context, work: Work) -> list[EarlierVersion]:
    """The model's earlier versions that were measured on the very same validation images."""
    try:
        versions = context.registry.list_versions(work.request.model, EARLIER_VERSIONS).items
    except NotFound:
        return []
    same = work.division.validation.content_hash
    return [
        EarlierVersion(v.number, v.architecture, _origin(v.manifest), v.metrics["validation"]["accuracy"])
        for v in reversed(versions)
        if ((v.manifest.get("dataset") or {}).get("validation_hash") == same and v.metrics.get("validation"))
    ]


def _origin(manifest: dict[str, Any]) -> str:
    weights = manifest.get("weights") or {}
    if weights.get("origin") == "model":
        return f"{weights.get('model')}:{weights.get('version')}"
    return str(weights.get("name") or weights.get("origin") or "unknown")
