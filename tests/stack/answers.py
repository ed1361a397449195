"""What a version said of an image, and whether it says the same again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Between one release of ONNX Runtime and another, or one batch size and another, the last digits may differ.
TOLERANCE = 1e-3


@dataclass
class Answers:
    """Answers by version and image; the first of each is what later ones are held to."""

    first: dict[tuple[int, str], list[tuple[str, float]]] = field(default_factory=dict)
    different: list[str] = field(default_factory=list)

    def compare(self, image: str, answer: Mapping[str, Any]) -> str:
        """Takes the JSON of a classification of one image; says `first`, `same` or `different`.

        Different is another order of labels among those that are further apart than the tolerance, or another
        probability. Ties may be broken either way.
        """
        (prediction,) = answer["predictions"]
        now = [(scored["label"], scored["probability"]) for scored in prediction["classes"]]
        key = (answer["version"], image)
        before = self.first.setdefault(key, now)
        if before is now:
            return "first"
        if agree(before, now):
            return "same"
        self.different.append(f"{image} by version {key[0]}: {before} before, {now} now")
        return "different"

    def versions(self) -> set[int]:
        return {version for version, _ in self.first}


def agree(before: Sequence[tuple[str, float]], now: Sequence[tuple[str, float]]) -> bool:
    """Each label has the probability that it had, within the tolerance."""
    earlier = dict(before)
    return len(before) == len(now) and all(
        abs(probability - earlier.get(label, float("inf"))) <= TOLERANCE for label, probability in now
    )
