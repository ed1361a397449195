"""Faster variants of a version: tried, judged beside float32, and those that passed put beside its graph."""

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.artifact import Manifest, checksums, model_file, verify
from models.devices import cuda_problem
from models.training.pixels import Pixels, decode
from models.training.split import ImageList
from models.variants.build import build
from models.variants.gate import FEWEST_IMAGES
from models.variants.report import VariantReport
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.datasets import DatasetRegistry
from storage.registry import ModelRegistry
from system.cores import usable_cores
from workers.contract.jobs.variants import Variant, VariantsRequest, VariantsResult
from workers.jobs.attempt import RunningAttempt
from workers.settings import WorkerSettings
from workers.training.cleanup import PIXELS
from workers.training.dataset import open_dataset
from workers.training.progress import ProgressReporter
from workers.training.registration import replace_artifact
from workers.training.variant_images import VariantImages, choose_images

# For each precision; the plain recipe takes seconds, and what is tried after it has failed takes the rest.
BUDGET_S = 300.0


@dataclass(frozen=True)
class VariantsJob:
    """What trying variants needs of its worker."""

    settings: WorkerSettings
    registry: ModelRegistry
    datasets: DatasetRegistry
    blobs: BlobStore
    folder_cache: FolderCache

    def __call__(self, attempt: RunningAttempt, reporter: ProgressReporter, work_dir: Path) -> None:
        """Runs the job, in the folder `work_dir`, to a version whose manifest has the reports.

        What its float32 graph answers does not change. Raises the errors of `models` and `storage`, InvalidRequest
        and Interrupted.
        """
        request = attempt.request(VariantsRequest)
        version = self.registry.get_version(request.model, request.version)
        artifact = self.folder_cache.keep(version.artifact, checksums)
        # All of it: a damaged file would be given a checksum of its own.
        manifest = verify(artifact)
        dataset = open_dataset(request.dataset, self.datasets, self.folder_cache, self.settings.cache)
        images = choose_images(manifest, dataset)

        # An earlier attempt has left nothing to go on with.
        shutil.rmtree(work_dir, ignore_errors=True)
        folder = work_dir / f"artifact-{attempt.short_id}"
        folder.mkdir(parents=True)
        reports: dict[str, VariantReport]
        if len(images.judging) < FEWEST_IMAGES or not len(images.calibrating):
            reports = {precision: _too_few(precision, images) for precision in precisions_of(request)}
        else:
            with temporary_files_in(work_dir / "tmp"):
                reports = self._try(precisions_of(request), artifact, folder, manifest, images, reporter)

        reporter.phase("publishing")
        copy_files(artifact, folder, manifest, leave_out={model_file(precision) for precision in reports})
        variants = {precision: report.to_dict() for precision, report in reports.items()}
        described = dataclasses.replace(manifest, variants={**manifest.variants, **variants})
        reporter.end_phase()

        def result() -> VariantsResult:
            return VariantsResult(
                model=version.model,
                version=version.number,
                variants=variants,
                calibrated_on=len(images.calibrating),
                judged_on=len(images.judging),
                left_out=images.left_out,
                left_out_labels=images.left_out_labels,
                seconds=reporter.seconds,
            )

        replace_artifact(
            attempt, folder, described, version, blobs=self.blobs, registry=self.registry, result=result
        )

    def _try(
        self,
        precisions: tuple[Variant, ...],
        artifact: Path,
        folder: Path,
        manifest: Manifest,
        images: VariantImages,
        reporter: ProgressReporter,
    ) -> dict[str, VariantReport]:
        """Those that pass have their file in `folder` then."""
        total = len(images.calibrating) + len(images.judging)

        def prepared(part: ImageList, before: int) -> Pixels:
            return decode(
                part,
                manifest.preprocessing,
                self.settings.cache / PIXELS,
                threads=usable_cores(),
                max_pixels=self.settings.max_pixels,
                on_progress=lambda done, _: reporter.progress(before + done, total),
            )

        calibrating = prepared(images.calibrating, 0)
        judging = prepared(images.judging, len(images.calibrating))
        reports: dict[str, VariantReport] = {}
        for precision in precisions:
            reporter.phase("trying")
            reporter.remember(precision=precision)
            reports[precision] = build(
                artifact / model_file("float32"),
                folder / model_file(precision),
                precision,
                calibration=calibrating.array,
                images=judging.array,
                labels=images.judging.targets,
                budget_s=BUDGET_S,
                watcher=reporter.progress,
            )
        return reports


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """What libraries write to files of their own, and leave when the process is killed, goes with the folder."""
    folder.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def precisions_of(request: VariantsRequest) -> tuple[Variant, ...]:
    """Those to try. Asks for the GPU only where nobody said which."""
    if request.precisions != "auto":
        return tuple(dict.fromkeys(request.precisions))
    return ("int8",) if cuda_problem() else ("int8", "fp16")


def copy_files(artifact: Path, folder: Path, manifest: Manifest, *, leave_out: set[str]) -> None:
    """What the manifest lists, but for `leave_out`. Raises OSError on a full disk."""
    for name in manifest.files:
        if name not in leave_out:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact / name, folder / name)


def _too_few(precision: Variant, images: VariantImages) -> VariantReport:
    calibrating, judging = len(images.calibrating), len(images.judging)
    return VariantReport(
        precision=precision,
        passed=False,
        reason=f"{judging} labelled images of the dataset can judge it and {calibrating} calibrate it; at least "
        f"{FEWEST_IMAGES} and 1 are needed to say anything",
        images=judging,
        calibration_images=calibrating,
    )
