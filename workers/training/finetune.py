"""A fine-tune from request to version: the phases in the order in which they run."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.artifact import MODEL
from models.card.finetuned import write_finetuned_card
from models.export import to_onnx
from models.parity import check_parity
from models.training.checkpoint import Checkpoints, fingerprint_of
from models.training.features import FeatureCache
from models.training.inputs import prepare_inputs
from models.training.precision import training_device, use_threads
from models.training.seeds import seed_everything
from models.training.split import split_dataset
from models.training.strategy import choose_strategy
from models.training.train import train
from models.weights.store import WeightsStore
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.datasets import DatasetRegistry
from storage.registry import ModelRegistry, Version
from system.cores import usable_cores
from workers.contract.jobs import FinetuneRequest, FinetuneResult, PromotionResult, StrategyResult
from workers.jobs.attempt import RunningAttempt
from workers.settings import WorkerSettings
from workers.training.artifact import describe_finetune, earlier_versions, write_weights
from workers.training.dataset import dataset_name, open_dataset
from workers.training.evaluation import evaluate_model
from workers.training.initial import initial_model
from workers.training.mirror import MirroredCheckpoints
from workers.training.progress import ProgressReporter
from workers.training.promotion import decide_promotion
from workers.training.registration import register_version

PARITY_IMAGES = 64


@dataclass(frozen=True)
class FinetuneJob:
    """What a fine-tune needs of its worker; `export` writes the ONNX graph, as `models.export.to_onnx` does."""

    settings: WorkerSettings
    registry: ModelRegistry
    datasets: DatasetRegistry
    blobs: BlobStore
    folders: FolderCache
    weights: WeightsStore
    export: Callable[..., object] = to_onnx

    def __call__(self, attempt: RunningAttempt, reporter: ProgressReporter, work: Path) -> None:
        """Runs the job, in the folder `work`, to a registered version.

        Raises the errors of `models.training`, `models.weights` and `storage`, ExportMismatch and Interrupted.
        """
        settings, cache, threads = self.settings, self.settings.cache, usable_cores()
        request = attempt.request(FinetuneRequest)
        recipe = request.resolved_recipe()

        # preparing: the dataset, who validates, the network to start from, and which of its layers learn
        device = training_device(settings.training_device)
        dataset = open_dataset(request.dataset, self.datasets, self.folders, cache)
        split = split_dataset(dataset, fraction=request.validation.fraction, seed=request.seed)
        seed_everything(request.seed, "network")
        initial = initial_model(request, split.labels, self.weights, self.registry, self.folders)
        network, preprocessing = initial.network, initial.preprocessing
        use_threads(settings.training_threads or threads, preprocessing)
        strategy = choose_strategy(
            request.strategy, split.train.targets, len(split.labels), pretrained=initial.pretrained
        )
        reporter.remember(strategy=strategy.strategy, strategy_reason=strategy.reason)
        inputs = prepare_inputs(
            split,
            preprocessing,
            cache / "pixels",
            threads=threads,
            max_pixels=settings.max_pixels,
            on_progress=reporter.progress,
        )

        # extracting, training
        fingerprint = fingerprint_of(
            request.architecture,
            initial.architecture_params,
            initial.provenance,
            recipe.model_dump(),
            request.seed,
            strategy.strategy,
            split.labels,
            split.train.content_hash,
            split.validation.content_hash,
        )
        trained = train(
            network,
            inputs,
            recipe,
            strategy=strategy.strategy,
            pretrained=initial.pretrained,
            kept_labels=initial.kept_labels,
            seed=request.seed,
            device=device,
            watcher=reporter,
            cache=FeatureCache(cache / "features"),
            checkpoints=MirroredCheckpoints(
                Checkpoints(work / "checkpoints", fingerprint),
                self.blobs,
                f"jobs/{attempt.job.id}/checkpoints",
                is_last=lambda: attempt.lease.is_stopping,
            ),
        )
        # From here on there is a model, which a cancellation with `keep_best` shall not lose.
        attempt.lease.keep_result()

        reporter.phase("evaluating")
        metrics = evaluate_model(trained, split, reporter)
        temperature = metrics.calibration.temperature

        reporter.phase("exporting")
        folder = work / f"artifact-{attempt.name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.export(
            network.cpu().eval(),
            folder / MODEL,
            preprocessing=preprocessing,
            labels=split.labels,
            temperature=temperature,
        )

        reporter.phase("verifying")
        some = np.linspace(0, len(inputs.validation) - 1, min(PARITY_IMAGES, len(inputs.validation)))
        parity = check_parity(
            network,
            folder / MODEL,
            inputs.validation.array[some.round().astype(int)],
            preprocessing=preprocessing,
            temperature=temperature,
        )

        reporter.phase("publishing")
        trained_sha256 = write_weights(folder, dict(network.state_dict()))
        manifest = describe_finetune(
            request,
            recipe,
            dataset=dataset,
            dataset_name=dataset_name(request.dataset, self.datasets),
            split=split,
            provenance={**initial.provenance, "trained_sha256": trained_sha256},
            strategy=strategy,
            trained=trained,
            metrics=metrics,
            parity=parity,
            preprocessing=preprocessing,
            architecture_params=initial.architecture_params,
        )
        write_finetuned_card(
            folder,
            manifest,
            validation=metrics.validation,
            test=metrics.test,
            history=trained.result.history,
            trials=trained.head.trials if trained.head else (),
            pictures=inputs.test if metrics.test else inputs.validation,
            earlier=earlier_versions(request.model, split, self.registry),
        )
        promotion = decide_promotion(
            request.promote,
            request.model,
            metrics.validation,
            split,
            registry=self.registry,
            folders=self.folders,
            cache=cache / "pixels",
            max_pixels=settings.max_pixels,
            check=attempt.check,
        )
        reporter.end_phase()

        def result_of(version: Version) -> FinetuneResult:
            return FinetuneResult(
                model=version.model,
                version=version.number,
                metrics=metrics.summary(),
                promoted=promotion.promoted,
                promotion=PromotionResult(**asdict(promotion)),
                strategy=StrategyResult(**asdict(strategy)),
                stopped=trained.result.stopped,
                seconds=reporter.seconds,
            )

        register_version(
            attempt,
            folder,
            manifest,
            blobs=self.blobs,
            registry=self.registry,
            promote=promotion.promoted,
            result_of=result_of,
        )
