"""Everything that can be wrong with an image, weights, an architecture or an artifact.

ModelError
├── ImageError
│   ├── ImageUnreadable      the decoder gave up; carries its reason
│   ├── ImageTooManyPixels   larger than the limit, refused before decoding
│   ├── ImageTooCostly       more work than was to be spent here, refused before decoding
│   └── ImageQuarantined     decoding it ended a process, again and again
├── UnknownArchitecture
├── InvalidArchitecture      parameters that do not fit together, e.g. a convnet pattern
├── WeightsError
│   ├── UnknownWeights       no such weights for that architecture
│   ├── WeightsNotFound      not in the weights folder and cannot be downloaded
│   ├── WeightsCorrupt       wrong checksum, truncated, or a format that could carry code
│   └── WeightsMismatch      tensors missing, unexpected or of another shape
├── ArtifactError
│   ├── ArtifactNotFound
│   └── ArtifactCorrupt      a file is missing or its checksum is wrong
├── ModelQuarantined         loading it ended processes, again and again
├── UploadError
│   ├── ModelFileRefused     a user's model file is none that can be served; the text says how to mend it
│   └── UploadFactsMissing   labels or preprocessing are missing, or do not fit the file
├── InvalidPreprocessing     sizes or values that describe no way to prepare an image
├── ExportFailed             torch cannot write the network as one ONNX file
├── ExportMismatch           the ONNX graph does not compute what torch computes
├── DeviceUnavailable        a device was required and cannot be used
├── PrecisionUnavailable     no variant of that precision has passed its gate
├── OutputUnavailable        the network has nothing of the kind
├── CoverageUnavailable      too little is known to say which classes hold the truth so often
├── ExplanationUnavailable   the network cannot be explained in the way that was asked for
├── InvalidBatch             not the array of pixels that the model takes
└── PredictionFailed         the runtime gave up in the middle, e.g. out of memory
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class ModelError(Exception):
    """Base of every error about models; its text is safe to show to a user: it names no folder of this machine."""


def without_folder(said: object, path: Path) -> str:
    """What a library says of the file at `path`, which calls the file by its name and not by where it lies."""
    text = str(said)
    for folder in (path.resolve().parent, path.absolute().parent, path.parent):
        if folder != Path():
            text = text.replace(f"{folder}/", "")
    return text


class ImageError(ModelError):
    """One image cannot be used; its neighbours in the batch are unaffected."""


class ImageUnreadable(ImageError):
    """The bytes cannot be decoded; the text holds the decoder's reason."""


class ImageTooManyPixels(ImageError):
    """The image is larger than the pixel limit; it was not decoded."""


class ImageTooCostly(ImageError):
    """Decoding would cost more than was allowed for; it was not decoded, and may be where there is more time."""


class ImageQuarantined(ImageError):
    """Decoding the image has ended processes; the text says how. It is not decoded any more."""


class UnknownArchitecture(ModelError):
    """The zoo has no architecture of that name."""


class InvalidArchitecture(ModelError):
    """The architecture's parameters do not fit together."""


class WeightsError(ModelError):
    """Base of everything about weights."""


class UnknownWeights(WeightsError):
    """The architecture has no weights of that name."""


class WeightsNotFound(WeightsError):
    """The weights are not in the weights folder and could not be downloaded."""


class WeightsCorrupt(WeightsError):
    """The file is damaged, is not what its checksum says, or is a format that could carry code."""


class WeightsMismatch(WeightsError):
    """Tensors are missing, unexpected or of another shape than the architecture's."""


class ArtifactError(ModelError):
    """Base of everything about artifacts."""


class ArtifactNotFound(ArtifactError):
    """No complete artifact lies there: there is no manifest."""


class ArtifactCorrupt(ArtifactError):
    """A file of the artifact is missing or its checksum is not the manifest's."""


class ExportFailed(ModelError):
    """Torch cannot write the network as one ONNX file; the text holds its reason."""


class ExportMismatch(ModelError):
    """The exported graph's answers differ from torch's by more than the parity gate allows.

    `report` holds the numbers, as JSON types.
    """

    def __init__(self, message: str, report: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.report = dict(report)


class DeviceUnavailable(ModelError):
    """The requested device cannot be used on this machine."""


class ModelQuarantined(ModelError):
    """Loading the model has ended processes; carries how, in a few words. It is not loaded any more."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"Loading this version has ended the worker's process again and again ({self.reason}), so it is kept "
            "out for a week: use another version, or give the workers more memory and lift the quarantine."
        )


class UploadError(ModelError):
    """Base of everything about model files that users send."""


class ModelFileRefused(UploadError):
    """The file is none that can be served; the text says what it is, what was expected and how to mend it."""


class UploadFactsMissing(UploadError):
    """What a user has to say beside the file is missing, or does not fit it; the text begins with the field."""


class InvalidPreprocessing(ModelError):
    """The sizes or values describe no way to prepare an image."""


class PrecisionUnavailable(ModelError):
    """The version has no graph of that precision; the text says which it has."""


class OutputUnavailable(ModelError):
    """The graph does not give the output that was asked for; the text says what it gives."""


class CoverageUnavailable(ModelError):
    """No set of classes can be said to hold the truth so often.

    There are `images` that calibrate, `needed` would do, and `highest_coverage` can be asked for.
    """

    def __init__(
        self, reason: str, *, images: int = 0, needed: int | None = None, highest_coverage: float | None = None
    ) -> None:
        super().__init__(reason)
        self.images = images
        self.needed = needed
        self.highest_coverage = highest_coverage


class ExplanationUnavailable(ModelError):
    """The network cannot be explained by the method that was asked for; the text says why, and how it can be."""


class InvalidBatch(ModelError):
    """The array is not uint8 `[n, height, width, 3]` of the model's size."""


class PredictionFailed(ModelError):
    """The runtime could not compute a batch that is in order, for example for want of memory."""
