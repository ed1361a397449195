"""Which weights an architecture has: one look-up over all publishers. Downloads nothing."""

from models.weights.keras import keras_sources
from models.weights.source import IMAGENET, NONE, WeightsSource, choose
from models.weights.store import WeightsStore
from models.weights.torchvision_enums import torchvision_sources
from models.weights.user_weights import imported_sources
from models.zoo import registry

__all__ = ["IMAGENET", "NONE", "resolve", "sources"]


def sources(architecture: str, store: WeightsStore | None = None) -> list[WeightsSource]:
    """All weights of an architecture: the published ones, and those imported into `store`.

    Raises UnknownArchitecture.
    """
    entry = registry.get(architecture)
    found = keras_sources(architecture)
    if entry.source == "torchvision":
        found = torchvision_sources(architecture)
    elif entry.source == "timm":
        # Imported here because timm registers its 1,400 models at import, which costs seconds.
        from models.weights.timm_hub import timm_sources

        found = timm_sources(architecture)
    if store is not None:
        found += imported_sources(architecture, store.folder)
    return found


def resolve(architecture: str, name: str = IMAGENET, store: WeightsStore | None = None) -> WeightsSource:
    """The weights of that name; `imagenet` is the architecture's default. Upper and lower case are alike.

    Raises UnknownArchitecture, UnknownWeights with the names that there are.
    """
    return choose(sources(architecture, store), architecture, name)
