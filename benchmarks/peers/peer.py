"""The contract of a peer: what it is made of, how it is started, and the settings that it is tried with.

A peer is a folder: `peer.py` describes it here, in Fovea's environment; the file that serves runs in the peer's
own, made of `requirements.txt`, and imports of this project only `benchmarks.plain`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.answers import Reader
from benchmarks.server import Settings

FOLDER = Path(__file__).parent
# In the environment of every peer: the folder with `plain.onnx`.
ARTIFACTS = "FOVEA_BENCH_ARTIFACTS"


@dataclass(frozen=True)
class Place:
    """Where a peer is started: an environment's Python, an empty folder to work in, a free port."""

    python: Path
    folder: Path
    port: int

    def program(self, name: str) -> str:
        """A program of the environment."""
        return str(self.python.with_name(name))

    @property
    def packages(self) -> Path:
        """The environment's `site-packages`."""
        return next(self.python.parent.parent.glob("lib/python*/site-packages"))


@dataclass(frozen=True)
class Launch:
    """A command that serves on `Place.port`, and how it wants to be asked: a POST of one JPEG to `path`."""

    command: Sequence[str]
    path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """`sweep` answers, for so many cores, the settings to try; `distribution` is the package whose version it has.

    `programs` have to be on the PATH. `launch` may write into `Place.folder`.
    """

    name: str
    distribution: str
    launch: Callable[[Place, Settings], Launch]
    sweep: Callable[[int], Sequence[Settings]]
    read: Reader = json.loads
    programs: Sequence[str] = ()

    @property
    def requirements(self) -> Path | None:
        """None for what runs in Fovea's own environment."""
        path = FOLDER / self.name.replace("-", "_") / "requirements.txt"
        return path if path.exists() else None
