"""What onnxruntime and torch can really use here, as JSON: `python -m cli.probe onnxruntime|torch`.

A process of its own: both are heavy, and a broken driver can take the process down.
"""

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any


def probe_onnxruntime() -> dict[str, Any]:
    """`built`: providers of the package; `usable`: those that work; `problem`: why CUDA is not among them."""
    import onnxruntime

    from models.devices import CUDA, available_providers, cuda_problem

    usable, problem = list(available_providers()), cuda_problem()
    if CUDA in usable and importlib.util.find_spec("onnx"):
        problem = _run_on_cuda()
        usable = [provider for provider in usable if provider != CUDA or not problem]
    built = [provider.removesuffix("ExecutionProvider") for provider in onnxruntime.get_available_providers()]
    return {
        "version": onnxruntime.__version__,
        "built": built,
        "usable": [provider.removesuffix("ExecutionProvider") for provider in usable],
        "problem": problem,
    }


def probe_torch() -> dict[str, Any]:
    """`gpus`: their names; empty when torch can use none."""
    import torch

    usable = torch.cuda.is_available()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if usable else [],
    }


def _run_on_cuda() -> str | None:
    """Compute something with a session on CUDA; the reason when that fails."""
    import numpy as np
    from onnx import TensorProto, helper, save

    from models.devices import open_session
    from models.errors import ModelError

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", value[:1], value[1:])
    with tempfile.TemporaryDirectory(prefix="fovea-probe-") as folder:
        file = Path(folder) / "probe.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
        try:
            opened = open_session(file, device="cuda")
            opened.session.run(None, {"x": np.ones(4, np.float32)})
        except (ModelError, RuntimeError) as exc:
            return str(exc)
    return None


if __name__ == "__main__":
    print(json.dumps({"onnxruntime": probe_onnxruntime, "torch": probe_torch}[sys.argv[1]]()))
