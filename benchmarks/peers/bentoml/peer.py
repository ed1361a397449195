"""BentoML as a peer."""

import json
from collections.abc import Sequence

from benchmarks.peers.peer import Launch, Peer, Place
from benchmarks.server import Settings


def launch(place: Place, settings: Settings) -> Launch:
    command = [place.program("bentoml"), "serve", "benchmarks.peers.bentoml.server:Classify"]
    environment = {
        "FOVEA_BENCH_SETTINGS": json.dumps(settings),
        "BENTOML_HOME": str(place.folder),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    path = "/classify" if settings["threads"] else "/classify_in_loop"
    return Launch([*command, "--host", "127.0.0.1", "--port", str(place.port)], path, environment)


def sweep(cores: int) -> Sequence[Settings]:
    # Its batches want a list in each request, which one image in a body is not.
    # Without threads it classifies in the event loop.
    return [
        {"workers": cores, "threads": 0},
        {"workers": cores, "threads": 1},
        {"workers": cores, "threads": 2},
        {"workers": cores + 1, "threads": 0},
    ]


PEER = Peer("bentoml", "bentoml", launch, sweep)
