"""ONNX files that nobody vouches for, as an upload brings them, and all that an artifact's graph can be."""

from collections.abc import Iterator

from support.attacks.artifacts import GRAPHS
from support.attacks.attack import Attack, mutations
from support.model_files import WRONG, enormous, onnx_file, write

FAMILY = "model file"


def attacks(scale: int) -> Iterator[Attack]:
    made = {**GRAPHS, **{name: make for name, (make, _) in WRONG.items()}}
    made["an enormous array"] = lambda: enormous(2**20, 2**20)
    for name, make in made.items():
        yield Attack(FAMILY, name, lambda folder, m=make: write(folder, m()))  # type: ignore[misc]
    yield from mutations(FAMILY, "model.onnx", {"graph": onnx_file}, 25 * scale)
