"""What a network makes of its last feature map, and of single places of it. Knows no image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.devices import RUNTIME_ERRORS, open_head, runtime_reason
from models.errors import ExplanationUnavailable, PredictionFailed
from models.explanation.head_graph import cut_head
from models.spec import LOGITS

Floats = NDArray[np.float32]

# Rows of the head that run at once: those of a map of 8 by 8. What they hold is bounded as well, for a large map.
ROWS_AT_ONCE = 64
VALUES_AT_ONCE = 2**24
# How far the mean of what a head says of single places may be from what it says of the whole, of that itself.
TOLERANCE = 1e-3
PROBES = 3


class Head:
    """The layers behind the feature map `[C, h, w]` of the model's float32 graph, on the CPU.

    `is_additive`: its logits are the mean of what it says of each place alone, as those of pooling and one linear
    layer are. Raises ExplanationUnavailable where it cannot be cut out, or ONNX Runtime cannot run it.
    """

    def __init__(self, model: Path, sizes: Sequence[int], *, threads: int = 1) -> None:
        graph = cut_head(model, sizes)
        self.sizes = (sizes[0], sizes[1], sizes[2])
        self.memory_bytes = len(graph.content)
        self._model, self._given, self._channels_last = model, graph.given, graph.channels_last
        try:
            self._session: Any = open_head(graph.content, threads)
        except RUNTIME_ERRORS as exc:
            raise ExplanationUnavailable(f"its head cannot be run: {runtime_reason(exc, model)}") from exc
        self.is_additive = self._probed()

    @property
    def places(self) -> int:
        return self.sizes[1] * self.sizes[2]

    def logits(self, maps: Floats) -> Floats:
        """Of float32 `[n, C, h, w]`; float32 `[n, classes]`. Raises PredictionFailed."""
        step = max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // maps[0].size))
        if self._channels_last:
            maps = maps.transpose(0, 2, 3, 1)
        try:
            parts = [
                self._session.run([LOGITS], {self._given: np.ascontiguousarray(maps[start : start + step])})[0]
                for start in range(0, len(maps), step)
            ]
        except RUNTIME_ERRORS as exc:
            raise PredictionFailed(f"the head failed: {runtime_reason(exc, self._model)}") from exc
        return np.concatenate(parts)

    def by_place(self, feature_map: Floats) -> Floats:
        """What it says of each place as if the whole map were that, `[h, w, classes]`; an empty map's logits off.

        Where the head is additive this is the class activation map of every class (Zhou et al. 2016,
        arXiv 1512.04150): `w_c . f(x)` of the last layer's weights and the features at x.
        """
        channels, height, width = self.sizes
        vectors = feature_map.reshape(channels, -1).T[:, :, None, None]
        said = self.logits(np.broadcast_to(vectors, (len(vectors), *self.sizes)))
        return (said - self.of_nothing()).reshape(height, width, -1)

    def of_nothing(self) -> Floats:
        """The logits of an empty map, `[1, classes]`."""
        return self.logits(np.zeros((1, *self.sizes), np.float32))

    def _probed(self) -> bool:
        """Asked, not read off its layers: whatever they are, they do what pooling and a linear layer do or not."""
        random = np.random.default_rng(0)
        for _ in range(PROBES):
            probe = random.exponential(size=self.sizes).astype(np.float32)
            whole = self.logits(probe[None]) - self.of_nothing()
            mean = self.by_place(probe).mean((0, 1))
            if np.abs(mean - whole).max() > TOLERANCE * max(np.ptp(whole), np.abs(whole).max(), 1e-6):
                return False
        return True
