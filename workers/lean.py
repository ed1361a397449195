"""What an entry point imports first: libraries without what they use where it is installed, and nobody here does.

structlog takes rich with it, to colour tracebacks that are printed plain here; redis the metrics of
OpenTelemetry's SDK, which nobody reads; kombu a reader of YAML, in which no message is. They are a tenth of a
second of a process's start, and 7 MB for as long as it runs. Nor is garbage collected while a process imports:
its entry point calls `collect_new_garbage` before it begins its work. An inference worker keeps numpy's products
to the thread that asks for them: its cores are busy with images, and a product of an embedding would wait for
another thread a hundred times as long as it takes.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from system.garbage import pause_collection

ENTRY_POINTS = (
    "service.main",
    "workers.inference.main",
    "workers.inference.bulk",
    "workers.training.main",
    "workers.training.runner",
)


def entry_point() -> str | None:
    """The one of ours that this process runs with `python -m`. Whoever imports one, as a test does, is another."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None and spec.name in ENTRY_POINTS else None


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """Within the block these modules are as if not installed, afterwards as before; no effect on imported ones."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: an import of it fails
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


if entry_point():
    pause_collection()
if (entry_point() or "").startswith("workers.inference."):
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

with absent("rich", "opentelemetry.sdk", "yaml"):
    import kombu.serialization  # noqa: F401
    import redis  # noqa: F401
    import structlog  # noqa: F401
