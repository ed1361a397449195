"""Made-up requests by the API's own description: nothing breaks, and every answer is one that is described.

`make fuzz` does the same for longer; `FOVEA_FUZZ_SEED` repeats a run, `FOVEA_FUZZ_EXAMPLES` sets its length.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.colours import picture
from support.pages import ROOT
from support.stack import Stack
from support.world import colours_archive

EXAMPLES = int(os.environ.get("FOVEA_FUZZ_EXAMPLES", "15"))
LONGEST_ANSWER_S = 10
# What is right by the description can still be wrong by its content: bytes that are no image, a name not there.
LEFT_OUT = "positive_data_acceptance"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With keys, so that it is tried without them too."""
    service = Stack(tmp_path_factory.mktemp("fuzz"), {"FOVEA_HOST": "0.0.0.0"})
    service.redis.start()
    service.prepare()
    service.key = service.make_key("admin")
    try:
        for role in ("gateway", "inference"):
            service.start_process(role)
        service.wait_until(service.alive, "the gateway")
        for number in (1, 2, 3):
            service.publish(f"models/colours/{number}/")
        service.wait_until(lambda: service.workers() == 1, "a worker")
        yield service
    finally:
        service.stop()


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_whatever_is_sent_the_answer_is_one_that_is_described(gateway: Stack, tmp_path: Path) -> None:
    seed = os.environ.get("FOVEA_FUZZ_SEED") or str(secrets.randbelow(2**32))
    print(f"FOVEA_FUZZ_SEED={seed} FOVEA_FUZZ_EXAMPLES={EXAMPLES}")
    key = f"Bearer {gateway.key}"
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            f"--config-file={Path(__file__).with_name('schemathesis.toml')}",
            "run",
            f"{gateway.url}/openapi.json",
            f"--header=Authorization: {key}",
            f"--seed={seed}",
            f"--max-examples={EXAMPLES}",
            f"--exclude-checks={LEFT_OUT}",
            f"--max-response-time={LONGEST_ANSWER_S}",
            f"--request-timeout={LONGEST_ANSWER_S * 3}",
            "--generation-database=none",
            "--continue-on-failure",
            "--report=json",
            f"--report-json-path={report}",
        ],
        cwd=tmp_path,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "fuzz.hooks",
            "PYTHONPATH": str(ROOT / "tests"),
            "PYTHONWARNINGS": "default",
            "FOVEA_FUZZ_KNOWN": json.dumps(known_names(gateway, key)),
            "FOVEA_FUZZ_SECRETS": json.dumps([str(gateway.folder), str(ROOT), gateway.redis.url]),
        },
        capture_output=True,
        text=True,
    )
    print(done.stdout[-20_000:])
    assert done.returncode == 0, done.stderr[-3000:]
    assert gateway.alive()
    for role, process in gateway.processes.items():
        assert process.poll() is None, gateway.log(role)[-3000:]
    assert "Traceback" not in gateway.log("gateway")


def known_names(gateway: Stack, key: str) -> dict[str, list[Any]]:
    """Of each kind that a path names, one that exists: a dataset that is ready, and a job that has ended."""
    with httpx.Client(base_url=gateway.url, headers={"authorization": key}, timeout=30) as client:
        dataset = client.post("/v1/datasets?name=colours", content=colours_archive()).json()
        png = {"content-type": "image/png", "prefer": "respond-async"}
        job = client.post("/v1/models/colours/classify", content=picture("red"), headers=png).json()
        gateway.wait_until(
            lambda: client.get(f"/v1/datasets/{dataset['id']}").json()["state"] == "ready", "the dataset"
        )
    thumbnails = (gateway.folder / "blobs" / "datasets" / dataset["id"] / "thumbnails").glob("*.webp")
    return {
        "name": ["colours"],
        "reference": ["colours", "colours:2", "colours@production"],
        "alias": ["production"],
        "number": [1, 2, 3],
        "dataset_id": [dataset["id"]],
        "job_id": [dataset["job"]["id"], job["id"]],
        "sha256": [path.stem for path in thumbnails],
    }
