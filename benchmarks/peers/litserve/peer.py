"""LitServe as a peer."""

import json
from collections.abc import Sequence

from benchmarks.peers.peer import Launch, Peer, Place
from benchmarks.server import Settings


def launch(place: Place, settings: Settings) -> Launch:
    given = json.dumps({**settings, "port": place.port})
    return Launch([str(place.python), "-m", "benchmarks.peers.litserve.server", given], "/predict")


def sweep(cores: int) -> Sequence[Settings]:
    plain = {"workers": cores, "batch": 1, "wait_ms": 0, "api_servers": 1, "fast_queue": False}
    return [
        plain,
        {**plain, "fast_queue": True},
        {**plain, "api_servers": 2},
        {**plain, "batch": 8, "wait_ms": 5},
    ]


PEER = Peer("litserve", "litserve", launch, sweep)
