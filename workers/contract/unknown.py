"""What is made of the answer to an image that shows none of a version's classes."""

from typing import Literal

from workers.contract.messages import ImageOutcome

OnUnknown = Literal["mark", "refuse"]
UNKNOWN_IMAGE = "unknown_image"
ON_UNKNOWN = (
    "`mark`: an image that shows none of the classes is answered like any other, and `unknown` says so. "
    "`refuse`: it gets the error `unknown_image` instead. Of a version that has no threshold none is refused."
)


def judged(outcome: ImageOutcome, on_unknown: OnUnknown) -> ImageOutcome:
    """The outcome itself, or the error in its place; its score stays."""
    unknown = outcome.unknown
    if on_unknown == "mark" or unknown is None or not unknown.is_unknown:
        return outcome
    detail = (
        f"The image shows none of the classes that the version knows: its score of {unknown.score:.4g} is above "
        f"{unknown.threshold:.4g}. With on_unknown=mark its most probable classes are told all the same."
    )
    return ImageOutcome(error=UNKNOWN_IMAGE, detail=detail, unknown=unknown)
