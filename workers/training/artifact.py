"""What a fine-tune puts beside its graph: weights that can be trained further, and the manifest of it all."""

import dataclasses
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from models.artifact import Manifest, software_versions
from models.card.finetuned import EarlierVersion
from models.dataset.folder import DatasetFolder
from models.training.checkpoint import cpu_copies, weights_sha256
from models.training.disk import writing
from models.training.linear import FittedHead
from models.training.recipe import Recipe
from models.training.split import Split
from models.training.strategy import StrategyChoice
from models.training.train import TrainedModel
from storage.errors import NotFound
from storage.registry import ModelRegistry
from workers.contract.jobs.finetune import FinetuneRequest
from workers.training.evaluation import FinetuneMetrics
from workers.training.export import ExportedGraph

WEIGHTS = "weights.safetensors"
EARLIER_VERSIONS = 100


def write_weights(folder: Path, state: dict[str, Tensor]) -> str:
    """Writes a network's state dict; the sha256 of its values. Raises OSError on a full disk."""
    weights = cpu_copies(state)
    with writing(folder / WEIGHTS):
        save_file(weights, folder / WEIGHTS)
    return weights_sha256(weights)


def describe_finetune(
    request: FinetuneRequest,
    recipe: Recipe,
    *,
    dataset: DatasetFolder,
    dataset_name: str,
    line: dict[str, Any],
    split: Split,
    provenance: dict[str, Any],
    strategy: StrategyChoice,
    trained: TrainedModel,
    metrics: FinetuneMetrics,
    exported: ExportedGraph,
    **rest: Any,
) -> Manifest:
    """The manifest of a fine-tune, before its files are hashed; `rest` are fields of `Manifest` as they are."""
    result = trained.result
    return Manifest(
        model=request.model,
        labels=split.labels,
        architecture=request.architecture,
        weights=provenance,
        dataset={
            "id": request.dataset,
            "name": dataset_name,
            "content_hash": dataset.content_hash,
            **line,
            "split": split.describe(),
            "validation_hash": split.validation.content_hash,
        },
        recipe={
            **recipe.model_dump(),
            "name": request.preset or "custom",
            "strategy": strategy.strategy,
            "strategy_asked": request.strategy,
            "strategy_reason": strategy.reason,
            "logistic_regression": _regression(trained.head),
            # Sums over several of them round in another way than those of one.
            **({"devices": trained.devices} if trained.devices > 1 else {}),
        },
        seed=request.seed,
        software=software_versions(),
        metrics={
            **metrics.summary(),
            "validation": metrics.validation.details(),
            "test": metrics.test.details() if metrics.test else None,
            "history": [dataclasses.asdict(record) for record in result.history],
            "best_epoch": result.best_epoch,
            "stopped": result.stopped,
        },
        calibration={
            **dataclasses.asdict(metrics.calibration),
            "error_after": metrics.validation.calibration_error,
        },
        parity=exported.parity.to_dict(),
        outputs=exported.outputs,
        **rest,
    )


def earlier_versions(model: str, split: Split, registry: ModelRegistry) -> list[EarlierVersion]:
    """The model's earlier versions that were measured on the very same validation images, oldest first."""
    try:
        versions = registry.list_versions(model, EARLIER_VERSIONS).items
    except NotFound:
        return []
    same = split.validation.content_hash
    return [
        EarlierVersion(v.number, v.architecture, _origin(v.manifest), v.metrics["validation"]["accuracy"])
        for v in reversed(versions)
        if ((v.manifest.get("dataset") or {}).get("validation_hash") == same and v.metrics.get("validation"))
    ]


def _regression(head: FittedHead | None) -> dict[str, Any] | None:
    """How the head was fitted where it is a logistic regression on frozen features."""
    if head is None:
        return None
    return {
        "l2": head.l2,
        "augmented": head.augmented,
        "trials": [dataclasses.asdict(trial) for trial in head.trials],
    }


def _origin(manifest: dict[str, Any]) -> str:
    weights = manifest.get("weights") or {}
    if weights.get("origin") == "model":
        return f"{weights.get('model')}:{weights.get('version')}"
    return str(weights.get("name") or weights.get("origin") or "unknown")
