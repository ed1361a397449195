"""How the split of a revision is drawn, so that what validated before validates still. Knows no draw's seed.

Which images of a class validate depends on the number of its images and on the hash of each
(`models.training.split`). In a revision both change, so it has with it what the first of its family had: that is
drawn as ever, and each image stays on its side, whatever it is called now. What came later is drawn one by one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from models.dataset.sample import Sample


@dataclass(frozen=True)
class Draw:
    """`first`: of the images that the family's first had, by sha256 the label that they had there, where they
    have another one now or are not drawn any more. `later`: the sha256 of those that it did not have."""

    first: Mapping[str, str]
    later: frozenset[str]

    def to_dict(self) -> dict[str, Any]:
        return {"first": dict(sorted(self.first.items())), "later": sorted(self.later)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Draw":
        return cls(dict(values["first"]), frozenset(values["later"]))

    def first_images(self, samples: Iterable[Sample]) -> dict[str, str]:
        """What is drawn as ever: by sha256 the label that it had. `samples` are those to draw of."""
        present = {s.sha256: s.label for s in samples if s.sha256 not in self.later}
        return {**present, **self.first}


def next_draw(before: Iterable[Sample], draw: Draw | None, after: Iterable[Sample]) -> Draw:
    """The draw of a revision with the samples `after`, made of a dataset with those `before` and its `draw`."""
    drawn = Draw({}, frozenset()) if draw is None else draw
    was_first = drawn.first_images(sample for sample in before if sample.split != "test")
    now = {sample.sha256: sample.label for sample in after if sample.split != "test"}
    first = {sha256: label for sha256, label in was_first.items() if now.get(sha256) != label}
    return Draw(first, frozenset(now.keys() - was_first.keys()))
