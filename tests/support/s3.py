"""A real HTTP server that speaks S3 and keeps its objects in memory."""

import importlib
import importlib.util
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class S3Server:
    endpoint: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to reach it: the variables that every S3 client reads."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def make_bucket(self) -> str:
        """The URL of a place in a new bucket."""
        bucket = uuid.uuid4().hex
        s3fs = importlib.import_module("s3fs")
        s3fs.S3FileSystem(key="test", secret="test", endpoint_url=self.endpoint).mkdir(bucket)
        return f"s3://{bucket}/fovea"


@contextmanager
def running_s3() -> Iterator[S3Server]:
    missing = [name for name in ("s3fs", "moto", "flask") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: `uv pip install s3fs 'moto[server]'` to test S3")
    threaded = importlib.import_module("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    threaded.start()
    host, port = threaded.get_host_and_port()
    try:
        yield S3Server(f"http://{host}:{port}")
    finally:
        threaded.stop()
