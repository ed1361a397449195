"""Imports libraries without what they would use if it is installed, and what no process here uses.

structlog takes rich with it, to colour tracebacks that are printed plain here; redis the metrics of
OpenTelemetry's SDK, which nobody reads; kombu a reader of YAML, in which no message is. They are a tenth of a
second of a process's start, and 7 MB for as long as it runs. An entry point imports this module first.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


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


with absent("rich", "opentelemetry.sdk", "yaml"):
    import kombu.serialization  # noqa: F401
    import redis  # noqa: F401
    import structlog  # noqa: F401
