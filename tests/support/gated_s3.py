"""An S3 server in a process of its own, whose answers can be slow, refused or forbidden for a while."""

import ctypes
import importlib
import multiprocessing
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection
from typing import Any

Wsgi = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]

_WRITES = ("PUT", "POST", "DELETE")
# Forked, it would inherit locks of threads that are not there.
_SPAWN = multiprocessing.get_context("spawn")


class State(ctypes.Structure):
    """`delay_s` before every answer; while `is_away` 503 to everything; while `is_read_only` 403 to writes."""

    _fields_ = (("delay_s", ctypes.c_double), ("is_away", ctypes.c_bool), ("is_read_only", ctypes.c_bool))


class GatedS3:
    """`state` is what the server does, from the next answer on."""

    def __init__(self) -> None:
        self.state: Any = _SPAWN.Value(State, 0.0, False, False, lock=False)
        near, far = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(self.state, far), daemon=True, name="s3")
        self._port = near

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to reach it: the variables that every S3 client reads."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> "GatedS3":
        self._process.start()
        self.endpoint = f"http://127.0.0.1:{self._port.recv()}"
        return self

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()

    def make_bucket(self) -> str:
        """The URL of a place in a new bucket."""
        s3fs: Any = importlib.import_module("s3fs")
        bucket = uuid.uuid4().hex
        files = s3fs.S3FileSystem(key="test", secret="test", endpoint_url=self.endpoint, skip_instance_cache=True)
        files.mkdir(bucket)
        return f"s3://{bucket}/fovea"

    def heal(self) -> None:
        self.state.delay_s, self.state.is_away, self.state.is_read_only = 0.0, False, False


def _serve(state: Any, port: Connection) -> None:
    moto: Any = importlib.import_module("moto.server")
    serving: Any = importlib.import_module("werkzeug.serving")
    app: Wsgi = moto.DomainDispatcherApplication(moto.create_backend_app)

    def gate(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if state.delay_s:
            time.sleep(state.delay_s)
        if state.is_away:
            return _refuse(environ, start_response, "503 Service Unavailable", "ServiceUnavailable")
        if state.is_read_only and environ["REQUEST_METHOD"] in _WRITES:
            return _refuse(environ, start_response, "403 Forbidden", "AccessDenied")
        return app(environ, start_response)

    handler = type("Quiet", (moto.MotoRequestHandler,), {"log_request": lambda *_, **__: None})
    server = serving.make_server("127.0.0.1", 0, gate, threaded=True, request_handler=handler)
    port.send(server.server_port)
    server.serve_forever()


def _refuse(
    environ: Mapping[str, Any], start_response: Callable[..., Any], status: str, code: str
) -> Iterable[bytes]:
    # A body that nobody reads would be taken for the next request on this connection.
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]
