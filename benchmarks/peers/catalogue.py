"""All peers by name."""

from benchmarks.peers.bare_fastapi.peer import PEER as BARE_FASTAPI
from benchmarks.peers.bentoml.peer import PEER as BENTOML
from benchmarks.peers.litserve.peer import PEER as LITSERVE
from benchmarks.peers.torchserve.peer import PEER as TORCHSERVE
from benchmarks.peers.triton.peer import PEER as TRITON

PEERS = {peer.name: peer for peer in (BARE_FASTAPI, TRITON, LITSERVE, BENTOML, TORCHSERVE)}
