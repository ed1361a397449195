"""What can be wrong with a training, its recipe or its images.

ModelError
└── TrainingError
    ├── InvalidRecipe     fields of the recipe that are wrong or do not fit the network
    ├── UntrainableDataset   too few classes or images to learn from
    ├── OutOfMemory       not even one image fits at once
    └── Diverged          the loss is no longer a number
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
