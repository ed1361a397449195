"""The model of Triton's Python backend: encoded images in, their best classes as JSON out."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

# The backend starts an isolated interpreter, which leaves this variable unread.
sys.path.extend(os.environ["PYTHONPATH"].split(os.pathsep))

from benchmarks.plain import PlainClassifier

IMAGE = "IMAGE"
CLASSES = "CLASSES"


class TritonPythonModel:
    """The name that the backend looks for. One of these lives in the process of each instance."""

    def initialize(self, _args: dict[str, str]) -> None:
        self._classifier = PlainClassifier(Path(os.environ["FOVEA_BENCH_ARTIFACTS"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Each request holds one image, because the client sends one; all of them are one batch."""
        tensors = [triton.get_input_tensor_by_name(request, IMAGE).as_numpy() for request in requests]
        return [
            triton.InferenceResponse(
                [triton.Tensor(CLASSES, np.array([[json.dumps(classes).encode()]], dtype=np.object_))]
            )
            for classes in self._classifier.classify([tensor.item() for tensor in tensors])
        ]
