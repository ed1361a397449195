"""What binds a training process to the worker that started it. Knows no job."""

import json
import os
from pathlib import Path

from storage.jobs import Attempt

ATTEMPT_VARIABLE = "FOVEA_TRAINER_ATTEMPT"
WORKER_VARIABLE = "FOVEA_TRAINER_WORKER"


def hand_over(attempt: Attempt) -> None:
    """Leave the attempt where the worker finds it, should this process die without a word."""
    file = os.environ.get(ATTEMPT_VARIABLE)
    if file is not None:
        Path(file).write_text(json.dumps({"job": attempt.job.id, "token": attempt.token}))
