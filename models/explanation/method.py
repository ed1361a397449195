"""The ways to explain a class, and which of them a version can be explained by. Knows no pixels."""

from collections.abc import Sequence
from typing import Literal, get_args

from models.errors import ExplanationUnavailable

Method = Literal["cam", "recipro-cam", "occlusion"]
MethodChoice = Literal["auto", "cam", "recipro-cam", "occlusion"]
CAM, RECIPRO_CAM, OCCLUSION = get_args(Method)
AUTO = "auto"


def chosen(asked: str, available: Sequence[str], why_not: str) -> str:
    """The method to use: the first of those that are available for `auto`.

    `why_not` says why there are no more. Raises ExplanationUnavailable.
    """
    if asked == AUTO:
        return available[0]
    if asked not in available:
        raise ExplanationUnavailable(
            f"This version can be explained by {' or '.join(available)}, not by {asked}: {why_not}. "
            f"Leave out the method, or ask for {available[0]}."
        )
    return asked
