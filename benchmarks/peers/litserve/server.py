"""LitServe around the plain classifier: `python -m benchmarks.peers.litserve.server SETTINGS-AS-JSON`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import litserve
from fastapi import Body

from benchmarks.plain import Classes, PlainClassifier


class Api(litserve.LitAPI):
    """The annotations make LitServe take the body as it is; by default it wants JSON or a form."""

    def setup(self, device: str) -> None:
        del device
        self._classifier = PlainClassifier(Path(os.environ["FOVEA_BENCH_ARTIFACTS"]))

    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    def predict(self, images: Any) -> Any:
        """A list of images where batches are on, else one image."""
        if isinstance(images, list):
            return self._classifier.classify(images)
        return self._classifier.classify([images])[0]

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Classes):
        return output


def main(settings: dict[str, Any]) -> None:
    api = Api(max_batch_size=settings["batch"], batch_timeout=settings["wait_ms"] / 1e3)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=settings["workers"], fast_queue=settings["fast_queue"]
    )
    server.run(
        host="127.0.0.1",
        port=settings["port"],
        num_api_servers=settings["api_servers"],
        access_log=False,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
