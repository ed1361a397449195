"""A fine-tune from request to version: the phases in the order in which they run."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.artifact import MODEL
from models.backbone_graph import BackboneGraphs
from models.card.finetuned import write_finetuned_card
from models.export import to_onnx
from models.findings.subject import Subject
from models.training.batches import get_ready_to_load
from models.training.checkpoint import Checkpoints, fingerprint_of
from models.training.embedded import embed_split
from models.training.errors import RankLost
from models.training.features import FeatureCache
from models.training.inputs import prepare_inputs
from models.training.parallel import Devices
from models.training.precision import training_device, use_threads
from models.training.seeding import seed_everything
from models.training.split import Split, split_dataset
from models.training.strategy import choose_strategy
from models.training.train import KeptGraphs, train
from models.variants.gate import FEWEST_IMAGES
from models.weights.store import WeightsStore
from models.zoo.layout import is_separable
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.database import Transaction
from storage.datasets import DatasetRegistry
from storage.registry import ModelRegistry, Version
from system.cores import usable_cores
from workers.contract.jobs.finetune import FinetuneRequest, FinetuneResult, PromotionResult, StrategyResult
from workers.contract.jobs.variants import VariantsRequest
from workers.contract.queues import JobKind
from workers.jobs.attempt import RunningAttempt
from workers.jobs.failure import unless_again
from workers.settings import WorkerSettings
from workers.training.artifact import describe_finetune, earlier_versions, write_weights
from workers.training.cleanup import BACKBONES, FEATURES, PIXELS
from workers.training.dataset import dataset_name, line_of, open_dataset
from workers.training.evaluation import evaluate_model
from workers.training.export import Exporter, export_network
from workers.training.findings import find_all, get_ready_to_find
from workers.training.initial import initial_model
from workers.training.mirror import MirroredCheckpoints
from workers.training.progress import ProgressReporter
from workers.training.promotion import decide_promotion
from workers.training.registration import register_version

PARITY_IMAGES = 64


@dataclass(frozen=True)
class FinetuneJob:
    """What a fine-tune needs of its worker; `exporter` writes the ONNX graph."""

    settings: WorkerSettings
    registry: ModelRegistry
    datasets: DatasetRegistry
    blobs: BlobStore
    folder_cache: FolderCache
    weights: WeightsStore
    exporter: Exporter = to_onnx

    def __call__(self, attempt: RunningAttempt, reporter: ProgressReporter, work_dir: Path) -> None:
        """Runs the job, in the folder `work_dir`, to a registered version.

        Raises the errors of `models.training`, `models.weights` and `storage`, ExportMismatch and Interrupted.
        """
        settings, cache_dir, threads = self.settings, self.settings.cache, usable_cores()
        request = attempt.request(FinetuneRequest)
        recipe = request.resolved_recipe()

        get_ready_to_find()
        device = training_device(settings.training_device)
        dataset = open_dataset(request.dataset, self.datasets, self.folder_cache, cache_dir)
        split = split_dataset(dataset, fraction=request.validation.fraction, seed=request.seed)
        seed_everything(request.seed, "network")
        initial = initial_model(request, split.labels, self.weights, self.registry, self.folder_cache)
        network, preprocessing = initial.network, initial.preprocessing
        use_threads(settings.training_threads or threads, preprocessing)
        strategy = choose_strategy(
            request.strategy,
            split.train.targets,
            len(split.labels),
            pretrained=initial.pretrained,
            separable=is_separable(network),
        )
        reporter.remember(strategy=strategy.strategy, strategy_reason=strategy.reason)
        if device.type == "cuda" and strategy.strategy != "head":
            get_ready_to_load()
        inputs = prepare_inputs(
            split,
            preprocessing,
            cache_dir / PIXELS,
            threads=threads,
            max_pixels=settings.max_pixels,
            on_progress=reporter.progress,
        )

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
        try:
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
                cache=FeatureCache(cache_dir / FEATURES),
                graphs=KeptGraphs(
                    BackboneGraphs(cache_dir / BACKBONES), work_dir / f"backbone-{attempt.short_id}.onnx"
                ),
                checkpoints=MirroredCheckpoints(
                    Checkpoints(work_dir / "checkpoints", fingerprint),
                    self.blobs,
                    f"jobs/{attempt.job.id}/checkpoints",
                    attempt=attempt.short_id,
                    is_last=lambda: attempt.lease.is_stopping,
                ),
                devices=Devices(settings.training_devices, settings.training_silence_s),
            )
        except RankLost as lost:
            raise unless_again(lost, attempt.job.error) from lost
        # From here on there is a model, which a cancellation with `keep_best` must not lose.
        attempt.lease.keep_result()

        reporter.phase("evaluating")
        metrics = evaluate_model(trained, split, reporter)

        folder = work_dir / f"artifact-{attempt.short_id}"
        indices = np.linspace(0, len(inputs.validation) - 1, min(PARITY_IMAGES, len(inputs.validation)))
        exported = export_network(
            self.exporter,
            network,
            folder,
            images=inputs.validation.array[indices.round().astype(int)],
            preprocessing=preprocessing,
            labels=split.labels,
            temperature=metrics.calibration.temperature,
            backbone=trained.backbone,
            reporter=reporter,
        )

        reporter.phase("examining")
        embedded = embed_split(
            trained,
            folder / MODEL,
            exported.outputs,
            inputs,
            threads=threads,
            device="cpu" if device.type == "cpu" else "auto",
            on_progress=reporter.progress,
        )
        findings = find_all(
            Subject(
                folder=folder,
                model=folder / MODEL,
                architecture=request.architecture,
                network=network,
                inputs=inputs,
                trained=trained,
                embedded=embedded,
                temperature=metrics.calibration.temperature,
                recipe=recipe,
                seed=request.seed,
                cache=cache_dir,
                threads=threads,
            ),
            reporter,
        )

        reporter.phase("publishing")
        trained_sha256 = write_weights(folder, dict(network.state_dict()))
        manifest = describe_finetune(
            request,
            recipe,
            dataset=dataset,
            dataset_name=dataset_name(request.dataset, self.datasets),
            line=line_of(request.dataset, self.datasets),
            split=split,
            provenance={**initial.provenance, "trained_sha256": trained_sha256},
            strategy=strategy,
            trained=trained,
            metrics=metrics,
            exported=exported,
            preprocessing=preprocessing,
            architecture_params=initial.architecture_params,
            findings={finding.name: finding.facts for finding in findings},
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
            findings=findings,
        )
        promotion = decide_promotion(
            request.promote,
            request.model,
            metrics.validation,
            split,
            registry=self.registry,
            folder_cache=self.folder_cache,
            cache_dir=cache_dir / PIXELS,
            max_pixels=settings.max_pixels,
            check=attempt.check,
        )
        reporter.end_phase()

        def promote(production: int | None) -> bool:
            return promotion.promoted and (request.promote == "always" or production == promotion.previous)

        def result_of(version: Version, promoted: bool, within: Transaction) -> FinetuneResult:
            decided = promotion if promoted == promotion.promoted else promotion.overtaken()
            return FinetuneResult(
                model=version.model,
                version=version.number,
                metrics=metrics.summary(),
                promoted=promoted,
                promotion=PromotionResult(**asdict(decided)),
                strategy=StrategyResult(**asdict(strategy)),
                stopped=trained.result.stopped,
                seconds=reporter.seconds,
                variants_job=try_variants(attempt, request, version, split, within),
            )

        register_version(
            attempt,
            folder,
            manifest,
            blobs=self.blobs,
            registry=self.registry,
            promote=promote,
            result_of=result_of,
        )


def try_variants(
    attempt: RunningAttempt, request: FinetuneRequest, version: Version, split: Split, within: Transaction
) -> str | None:
    """A job for the variants of the version, so that who teaches need not wait; None where it would be vain."""
    if request.variants == "none" or len(split.validation) + len(split.test) < FEWEST_IMAGES:
        return None
    asked = VariantsRequest(model=version.model, version=version.number, dataset=request.dataset)
    return attempt.follow_up(JobKind.VARIANTS, asked, within=within).id
