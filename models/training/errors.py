"""What can be wrong with a training, its recipe or its images.

ModelError
└── TrainingError
    ├── InvalidRecipe     a field of the recipe; carries its name
    ├── DatasetUnusable   too few classes or images to learn from
    ├── OutOfMemory       not even one image fits at once
    └── Diverged          the loss is no longer a number
"""

from models.errors import ModelError


class TrainingError(ModelError):
    """Base of everything about training."""


class InvalidRecipe(TrainingError):
    """A field of the recipe is wrong; `field` is its path, e.g. `recipe.augmentation.mirror`."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


class DatasetUnusable(TrainingError):
    """The images cannot be learnt from: one class, a class without images, nothing to validate on."""


class OutOfMemory(TrainingError):
    """The device's memory does not hold the network with a single image."""


class Diverged(TrainingError):
    """The loss became infinite or not a number."""
