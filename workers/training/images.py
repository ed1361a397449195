"""A fine-tune's images: the dataset it names, who trains and who validates, and their pixels."""

from dataclasses import dataclass

from models.dataset.folder import MANIFEST as DATASET_MANIFEST
from models.dataset.folder import DatasetFolder, checksums
from models.spec import Preprocessing
from models.training.data import ImageList, Pixels, Plan, canvas_of, decode
from models.training.digits import BUILTIN, open_digits
from storage.datasets import DatasetState
from system.cores import usable_cores
from workers.training.context import Context
from workers.training.request import InvalidRequest


@dataclass(frozen=True)
class Images:
    """Prepared pixels of each split; the training images as canvases."""

    train: Pixels
    validation: Pixels
    test: Pixels


def open_dataset(context: Context, name: str) -> DatasetFolder:
    """The dataset of that id, or the built-in one.

    Raises NotFound, InvalidRequest for one that is not ready, DatasetError where its files are not what they were.
    """
    if name == BUILTIN:
        return open_digits(context.settings.cache / "builtin" / "digits")
    row = context.shelf.get(name)
    if row.state != DatasetState.READY:
        raise InvalidRequest("dataset", f"{name} is {row.state}; only a dataset that is ready can be learnt from")
    return DatasetFolder.open(context.folders.keep(row.prefix, checksums, last=DATASET_MANIFEST))


def prepare_images(context: Context, division: Plan, preprocessing: Preprocessing) -> Images:
    """Decodes what was not decoded in the same way before."""
    total = sum(len(part) for part in (division.train, division.validation, division.test))
    before = 0

    def of(images: ImageList, how: Preprocessing) -> Pixels:
        nonlocal before
        begun = before
        before += len(images)
        return decode(
            images,
            how,
            context.settings.cache / "pixels",
            threads=usable_cores(),
            max_pixels=context.settings.max_pixels,
            tick=lambda done, _: context.reporter.tick(begun + done, total),
        )

    return Images(
        of(division.train, canvas_of(preprocessing)),
        of(division.validation, preprocessing),
        of(division.test, preprocessing),
    )
