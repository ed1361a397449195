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
    return Launch([*command, "--host", "127.0.0.1", "--port", str(place.port)], "/classify", environment)


def sweep(cores: int) -> Sequence[Settings]:
    # Its batches want a list in each request, which one image in a body is not.
    return [{"workers": cores, "threads": 1}, {"workers": cores, "threads": 2}, {"workers": 1, "threads": cores}]


PEER = Peer("bentoml", "bentoml", launch, sweep)
