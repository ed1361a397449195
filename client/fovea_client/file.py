"""Files that are there whole or not at all."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from fovea_client.call import Call
from fovea_client.plan import Emit, Feed, Plan, compute, each, read
from fovea_client.session import Session


def saved(
    session: Session, call: Call[None], target: Path, progress: Callable[[int], object] | None = None
) -> Plan[Path]:
    """The body of an answer, written to `target` while it comes; `progress` is called with the bytes by then.

    Raises OSError, ApiError, Unreachable.
    """
    done = 0
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as file:
        part = Path(file.name)

        def write(piece: bytes) -> None:
            nonlocal done
            file.write(piece)
            done += len(piece)
            if progress:
                progress(done)

        try:
            yield from each(pieces(session, call), write)
            file.close()
            yield from compute(lambda: part.replace(target))
        finally:
            part.unlink(missing_ok=True)
    return target


def pieces(session: Session, call: Call[None]) -> Feed[bytes]:
    """The body of an answer while it comes."""
    answer = yield from session.opened(call)
    while piece := (yield from read(answer)):
        yield Emit(piece)
    return None
