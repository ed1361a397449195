"""A model tried in a process of its own: `python -m models.trial FOLDER DEVICE THREADS CUDA_BYTES PRECISION...`.

Exits 0 where it loads and runs, or where it raises what it would raise anywhere; whatever else ends it is the
model's doing. (`models.decoder` does the same for images.)
"""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from models.decoder import offer_to_oom_killer
from models.devices import Device
from models.errors import ModelError
from system.ending import ending, oom_kills

LONGEST_S = 300.0


def try_model(
    folder: Path, precisions: Sequence[str], *, device: Device, intra_threads: int, gpu_mem_limit: int | None
) -> str | None:
    """How the model ends its process in one of its precisions, in a few words; None where it does not."""
    before = oom_kills()
    arguments = [str(folder), device, str(intra_threads), str(gpu_mem_limit or 0), *precisions]
    try:
        tried = subprocess.run(
            [sys.executable, "-m", "models.trial", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=LONGEST_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {LONGEST_S:g} s"
    return ending(tried.returncode, oom_kills_before=before) if tried.returncode else None


def main() -> None:
    from models.predictor import Predictor

    folder, device, threads, gpu_bytes, *precisions = sys.argv[1:]
    offer_to_oom_killer()
    for precision in precisions:
        with suppress(ModelError):
            predictor = Predictor(
                Path(folder),
                precision=precision,
                device=device,  # type: ignore[arg-type]
                intra_threads=int(threads),
                gpu_mem_limit=int(gpu_bytes) or None,
            )
            predictor.warm_up([1, 2, 8])


if __name__ == "__main__":
    main()
