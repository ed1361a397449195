"""The bare FastAPI as a peer: uvicorn with one process per core, in Fovea's own environment."""

from collections.abc import Sequence

from benchmarks.peers.peer import Launch, Peer, Place
from benchmarks.server import Settings


def launch(place: Place, settings: Settings) -> Launch:
    command = [str(place.python), "-m", "uvicorn", "benchmarks.peers.bare_fastapi.server:create_app", "--factory"]
    options = ["--port", str(place.port), "--workers", str(settings["workers"]), "--no-access-log"]
    return Launch([*command, *options, "--log-level", "warning"], "/classify")


def sweep(cores: int) -> Sequence[Settings]:
    return [{"workers": cores}, {"workers": cores + 1}]


PEER = Peer("bare-fastapi", "fastapi", launch, sweep)
