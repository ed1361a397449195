"""A whole Fovea for the length of one command, in a folder that the command throws away."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from cli.errors import StartFailed
from cli.up.address import claim_port, local_url
from cli.up.child import describe_exit
from system.parent import dying_with_parent

_STOP_S = 15.0
_LAST_LINES = 20


@contextlib.contextmanager
def temporary_fovea(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """`fovea up` in `folder`, ended with the context: its URL, and a check that it still runs.

    The check raises StartFailed with its last lines.
    """
    port = claim_port("127.0.0.1", 0)
    log, temporary = folder / "up.log", folder / "tmp"
    temporary.mkdir()
    address = ["--host", "127.0.0.1", "--port", str(port), "--grpc-port", "0"]
    options = [*address, "--data", str(folder / "data"), "--no-starter"]
    with log.open("wb") as lines:
        process = subprocess.Popen(
            dying_with_parent([sys.executable, "-m", "cli.main", "up", *options]),
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
            # torch and ONNX Runtime leave files of their own among the temporary ones.
            env={**os.environ, "PYTHONSAFEPATH": "1", "TMPDIR": str(temporary)},
            process_group=0,  # Ctrl-C reaches only this process, which then ends the other in order
        )

    def require_alive() -> None:
        if (code := process.poll()) is not None:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
            raise StartFailed(f"the Fovea started for this ended ({describe_exit(code)}); its last lines:\n{last}")

    try:
        yield local_url("127.0.0.1", port), require_alive
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
