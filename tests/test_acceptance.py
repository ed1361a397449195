"""What the service promises of its accuracy, with the real published weights, through the REST API."""

from pathlib import Path

import httpx
import pytest
from support.stack import Stack

pytestmark = pytest.mark.data


def test_published_mobilenet_names_61_of_100_photographs_first_and_81_among_five(
    tmp_path: Path, test_data: Path
) -> None:
    service = Stack(tmp_path, {"FOVEA_WEIGHTS_DIR": str(test_data / "weights")})
    try:
        service.start("gateway", "inference", "training")
        service.wait_until(lambda: service.workers() == 2, "the workers")
        publish(service)
        expected = {path: int(path.name[:3]) for path in sorted((test_data / "imagenet/samples").glob("*.JPEG"))}
        assert len(expected) == 100
        first = among_five = 0
        with httpx.Client(timeout=30) as client:
            for path, index in expected.items():
                answer = client.post(
                    f"{service.url}/v1/models/imagenet/classify",
                    content=path.read_bytes(),
                    headers={"content-type": "image/jpeg"},
                )
                (prediction,) = answer.json()["predictions"]
                found = [scored["index"] for scored in prediction["classes"]]
                first += found[0] == index
                among_five += index in found
        assert abs(first - 61) <= 1
        assert abs(among_five - 81) <= 1
    finally:
        service.stop()


def publish(service: Stack) -> None:
    wanted = {"architecture": "mobilenet_v1_025", "weights": "imagenet"}
    accepted = httpx.post(f"{service.url}/v1/models/imagenet/versions", json=wanted)
    assert accepted.status_code == 202, accepted.text
    job = service.url + accepted.headers["location"]
    service.wait_until(lambda: httpx.get(job).json()["state"] in ("succeeded", "failed"), "publishing", 180)
    assert httpx.get(job).json()["state"] == "succeeded", httpx.get(job).text
