"""A user's ONNX file made the artifact's, in a process of its own: `python -m models.uploaded.prepare`.

Told as JSON on its standard input, it answers as JSON: what it has made and found, or the error that it raised.
Everything that a stranger's graph can do to who reads or runs it, it does here: see `models.uploaded.jail`.
"""

import base64
import dataclasses
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from models.decoder import offer_to_oom_killer
from models.devices import quiet
from models.errors import ExportMismatch, ModelError, ModelFileRefused

# Room for one network with the file's weights and a copy of it on the way, each as read, as written and as run.
TIMES_THE_FILE = 8
# What the longest names and lists of a file may come to in the answer.
LONGEST_SHOWN = 200
COMPARED_ON = 16
THREE = 3


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a library prints must not come between the answers.
    os.dup2(2, 1)
    asked = json.load(sys.stdin)
    offer_to_oom_killer()
    # It says in its errors what it would write to the worker's log as well.
    quiet()
    # Loaded first, for what libraries only reserve is not counted.
    from models import photographs  # noqa: F401
    from models.uploaded import comparison, graph, wrap  # noqa: F401

    path = Path(asked["path"])
    _limit(asked["memory_bytes"] + TIMES_THE_FILE * path.stat().st_size, asked["cpu_s"])
    try:
        answer = prepared(path, Path(asked["into"]), asked["said"])
    except MemoryError:
        answer = _refusal(ModelFileRefused(NO_MEMORY))
    except ModelError as error:
        answer = _refusal(ModelFileRefused(NO_MEMORY) if "bad allocation" in str(error) else error)
    answers.write(json.dumps(answer, ensure_ascii=False))
    answers.close()


NO_MEMORY = (
    "the graph needs more memory than is given to a file that nobody vouches for; does it make an array that is "
    "not "
    "meant to be so large (ConstantOfShape, Expand, Tile), or is it for larger images than a classifier's?"
)


def prepared(path: Path, into: Path, said: dict[str, Any]) -> dict[str, Any]:
    """Writes the artifact's graph to `into`. Raises the errors of `models.uploaded`."""
    import onnx

    from models.filters.record import kernel_facts_alone
    from models.graph_facts import serialized
    from models.photographs import photographs
    from models.uploaded.comparison import answers_of, compare
    from models.uploaded.facts import InputSize, Said, labels_of, preprocessing_of, read_metadata
    from models.uploaded.graph import read_graph
    from models.uploaded.wrap import WAYS, wrapped

    asked = Said(**said)
    given = read_graph(path, asked.output, asked.values)
    known = read_metadata(given.metadata)
    size = InputSize(given.input.height, given.input.width, normalises=given.input.layout == "pixels")
    view, view_from = preprocessing_of(asked, known, size)
    images = photographs(view, COMPARED_ON)
    answers = answers_of(path, given.input, given.output.name, images, view)
    labels, labels_from = labels_of(asked, known, answers.rows.shape[1], path.name)

    values, told_by = given.output.values, given.output.told_by
    if values is None:
        values = "probabilities" if answers.look_like_probabilities else "logits"
    elif values == "probabilities" and not answers.look_like_probabilities:
        raise ModelFileRefused(
            f"values: by {told_by} the output {given.output.name!r} gives probabilities, but its rows do not add "
            "up to "
            "1, or hold values below 0; expected logits, or one row of probabilities for each image"
        )
    elif values == "logits" and answers.look_like_probabilities:
        raise ModelFileRefused(
            "values: got 'logits', but every row of the output adds up to 1 and holds nothing below 0: these are "
            "probabilities; leave it out"
        )
    # A calibrated file of Fovea's own: its temperature is between its logits and its probabilities.
    temperature = known.temperature if given.output.name == "logits" else 1.0
    ways = WAYS if given.input.batch is not None else WAYS[::2]
    for number, way in enumerate(ways, start=1):
        model, outputs = wrapped(
            given,
            view,
            labels,
            probabilities=values == "probabilities" and given.output.logits is None,
            temperature=temperature,
            way=way,
        )
        into.write_bytes(serialized(model))
        try:
            parity, shapes = compare(into, answers, images, values, temperature, list(outputs))
        except ExportMismatch:
            if number == len(ways):
                raise
            continue
        if all(shapes[name] == (THREE, *sizes) for name, sizes in outputs.items()):
            break
    facts = {
        "opset": given.opset,
        "ir_version": given.model.ir_version,
        "producer": _readable(f"{given.model.producer_name} {given.model.producer_version}".strip()),
        "nodes": sum(given.operators.values()),
        "operators": dict(given.operators.most_common(12)),
        "parameters": given.parameters,
        "input": dataclasses.asdict(given.input),
        "output": _readable(given.output.name),
        "values": values,
        "values_told_by": told_by,
        "labels_from": labels_from,
        "preprocessing_from": view_from,
        "seconds_for_an_image": round(answers.seconds, 4),
        "onnx": onnx.__version__,
    }
    filters, pictures = kernel_facts_alone(model)
    return {
        "labels": list(labels),
        "preprocessing": view.to_dict(),
        "temperature": temperature,
        "outputs": outputs,
        "parity": parity,
        "facts": facts,
        "filters": filters,
        "pictures": {name: base64.b64encode(content).decode() for name, content in pictures.items()},
    }


def _readable(text: str) -> str:
    """As it may stand on a card."""
    return ascii(text)[1:-1][:LONGEST_SHOWN]


def _limit(memory_bytes: int, cpu_s: int) -> None:
    mapped = Path("/proc/self/statm")
    if mapped.exists():
        reserved = int(mapped.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (reserved + memory_bytes, reserved + memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _refusal(error: ModelError) -> dict[str, Any]:
    return {"error": type(error).__name__, "detail": str(error), "report": getattr(error, "report", None)}


if __name__ == "__main__":
    main()
