"""What can be wrong with a training, its recipe or its images.

ModelError
└── TrainingError
    ├── InvalidRecipe     fields of the recipe that are wrong or do not fit the network
    ├── UntrainableDataset   too few classes or images to learn from
    ├── OutOfMemory       not even one image fits at once
    ├── Diverged          the loss is no longer a number
    └── RankLost          one of several processes that train together died or stands still
        └── RankKilled    by SIGKILL, most often for want of memory
SmallerParts              no error: how a rank says that its share of a batch does not fit
"""

from models.errors import ModelError


class TrainingError(ModelError):
    """Base of everything about training."""


class InvalidRecipe(TrainingError):
    """Fields of the recipe are wrong; the text names each by its path, such as `recipe.augmentation.mirror`."""


class UntrainableDataset(TrainingError):
    """The images cannot be learnt from: one class, a class without images, nothing to validate on."""


class OutOfMemory(TrainingError):
    """The device's memory does not hold the network with a single image."""


class Diverged(TrainingError):
    """The loss became infinite or not a number."""


class RankLost(TrainingError):
    """A process that trained together with others is gone or stands still; the text says which and how."""


class RankKilled(RankLost):
    """It was killed, by the kernel or by somebody."""


class SmallerParts(Exception):
    """A rank's share of a batch does not fit into its memory; all ranks are to begin anew with smaller parts."""

    def __init__(self, images: int) -> None:
        super().__init__(images)
        self.images = images
