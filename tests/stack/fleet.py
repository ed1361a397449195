"""Two hosts as two projects: one with gateway and servers, one with workers alone, an S3 store between them."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import s3fs
from digits import LONG, Digits, finetune, wait_for_epoch, wait_for_success
from log import require, step
from project import Project, wait_until

HERE = Path(__file__).parent
# The host's own address on the network between the hosts: there the S3 store listens.
SUBNET, HOST, PORT = "198.18.250.0/24", "198.18.250.1", 19000
BUCKET = "fovea"
CREDENTIALS = "[default]\naws_access_key_id = test\naws_secret_access_key = test\n"
BLOBS = {
    "FOVEA_BLOBS_URL": f"s3://{BUCKET}/production",
    "AWS_ENDPOINT_URL": f"http://{HOST}:{PORT}",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def two_hosts(project: Project, digits: Digits) -> None:
    """Trains and serves on the other host, loses it in the midst of a fine-tune, and goes on on the first."""
    project.run("docker", "network", "create", "--subnet", SUBNET, "fovea-fleet")
    credentials = project.folder / "secrets/aws_credentials"
    credentials.write_text(CREDENTIALS)
    environment = project.environment | BLOBS
    shared = ("docker-compose.yml", "docker/compose.fleet.yml")
    first = replace(project, environment=environment, files=(*shared, str(HERE / "host-a.yml")))
    other = replace(first, folder=project.folder.parent / "other", files=(*shared, str(HERE / "host-b.yml")))
    shutil.rmtree(other.folder, ignore_errors=True)
    shutil.copytree(project.folder, other.folder)
    workers = ("worker-inference", "worker-training")
    try:
        with s3_store(project.folder.parent / "s3.log"):
            with step("two hosts: gateway and servers here, workers there, blobs in S3"):
                first.up("--scale", "worker-inference=0", "--scale", "worker-training=0")
                other.up("--no-deps", *workers)
                wait_until(first.ready, "the workers of the other host")
            with step("a dataset from here is checked, learnt and served there"):
                dataset = digits.upload(first)
                job = finetune(first, dataset, promote="always", recipe={"epochs": 8})
                wait_for_success(first, job, attempts=1)
                digits.check(first)
            with step("the other host dies in the midst of a fine-tune; this one goes on with it, and serves"):
                job = finetune(first, dataset, recipe=LONG)
                wait_for_epoch(first, job, 5)
                other.compose("kill")
                first.up()
                wait_for_success(first, job, attempts=2)
                digits.check(first)
    finally:
        other.compose("down", "--volumes", "--timeout", "5", check=False)
        first.compose("down", "--volumes", "--timeout", "5", check=False)
        project.run("docker", "network", "rm", "fovea-fleet", check=False)


@contextmanager
def s3_store(log: Path) -> Iterator[None]:
    """A stand-in that speaks S3, with an empty bucket."""
    with log.open("wb") as said:
        command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(PORT)]
        server = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | {"no_proxy": "*"})
    try:
        begun = time.monotonic()
        while True:
            try:
                httpx.get(f"http://{HOST}:{PORT}/moto-api/", trust_env=False)
                break
            except httpx.TransportError:
                require(server.poll() is None and time.monotonic() - begun < 30, f"no S3 store: see {log}")
                time.sleep(0.2)
        s3fs.S3FileSystem(key="test", secret="test", endpoint_url=f"http://{HOST}:{PORT}").mkdir(BUCKET)
        yield
    finally:
        server.terminate()
        server.wait(10)
