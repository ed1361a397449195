"""One measured step: what was done in its window, at which cost. Knows not how it was measured."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """Images classified in one window of wall-clock time. Times are milliseconds, memory is bytes.

    `cpu_ms` is the processor time of all processes of the step (without the load generator) for each image;
    `inference_ms` the part of it inside ONNX Runtime, where that was measured. `others` is the share of the
    machine's processor time that neither the step nor its load generator used: on a quiet machine it is near 0,
    and where it is not the figure says little. `faults` counts answers other than 200 and broken connections;
    with any of them the figure is void. `stages` is what the service says of itself: the mean batch, and mean
    milliseconds of waiting, queue, fetching, decoding and inference.

    `memory_of` is what each process has resident; `pss` is of all of them together, with the pages that they share
    counted once. `cold_start_s` is of the start before this step.
    """

    step: str
    images: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    others: float
    inference_ms: float | None = None
    decode_ms: float | None = None
    client_ms: float = 0.0
    cpu_of: dict[str, float] = field(default_factory=dict)
    memory_of: dict[str, int] = field(default_factory=dict)
    pss: int = 0
    cold_start_s: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    faults: int = 0
    fault: str = ""

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    def to_dict(self) -> dict[str, Any]:
        return {"rate": round(self.rate, 2), **dataclasses.asdict(self)}
