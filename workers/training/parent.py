"""What binds a training process to the worker that started it. Knows no job."""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from storage.jobs import Attempt

PARENT_VARIABLE = "FOVEA_TRAINER_PARENT"
ATTEMPT_VARIABLE = "FOVEA_TRAINER_ATTEMPT"
WORKER_VARIABLE = "FOVEA_TRAINER_WORKER"
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel send this process SIGTERM when the worker dies, however it dies (Linux only).

    Without it a trainer whose worker was killed would go on training, alone, for hours.
    """
    expected = os.environ.get(PARENT_VARIABLE)
    if expected is None or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(expected):
        # It died before the kernel was asked.
        os.kill(os.getpid(), signal.SIGTERM)


def hand_over(attempt: Attempt) -> None:
    """Leave the attempt where the worker finds it, should this process die without a word."""
    file = os.environ.get(ATTEMPT_VARIABLE)
    if file is not None:
        Path(file).write_text(json.dumps({"job": attempt.job.id, "token": attempt.token}))
