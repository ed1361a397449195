"""One hostile file, or folder of files, made when it is wanted: the same each time."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Attack:
    """`make` writes it into an empty folder, and gives the path that is to be read."""

    family: str
    name: str
    make: Callable[[Path], Path]

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def file(family: str, name: str, filename: str, content: Callable[[], bytes]) -> Attack:
    def make(folder: Path) -> Path:
        (folder / filename).write_bytes(content())
        return folder / filename

    return Attack(family, name, make)


def mutated(valid: bytes, random_: random.Random) -> bytes:
    """A few of what transfers, disks and attackers do to bytes."""
    data = bytearray(valid)
    for _ in range(random_.choice((1, 1, 2, 5, 20))):
        at = random_.randrange(len(data) or 1)
        size = random_.choice((1, 2, 4, 8, 64, 512))
        match random_.randrange(6):
            case 0:
                data[at : at + size] = random_.randbytes(len(data[at : at + size]))
            case 1:
                data[at : at + 4] = random_.choice((b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size]
            case 4:
                del data[max(1, at) :]
            case _:
                other = random_.randrange(len(data) or 1)
                data[at : at + size], data[other : other + size] = data[other : other + size], data[at : at + size]
    return bytes(data)


def mutations(
    family: str, filename: str, valid: Mapping[str, Callable[[], bytes]], count: int
) -> Iterator[Attack]:
    """`count` of each valid file, numbered by their seeds."""
    for kind, make in valid.items():
        for seed in range(count):
            name = f"{kind}, damaged by seed {seed}"
            yield file(family, name, filename, lambda m=make, n=name: mutated(m(), random.Random(n)))  # type: ignore[misc]
