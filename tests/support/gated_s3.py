"""An S3 server whose answers can be slow, refused or forbidden for a while, as a store's are."""

import importlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Wsgi = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]

_WRITES = ("PUT", "POST", "DELETE")


class GatedS3:
    """`delay_s` before every answer; while `is_away` 503 to everything; while `is_read_only` 403 to writes."""

    def __init__(self) -> None:
        moto: Any = importlib.import_module("moto.server")
        self._app: Wsgi = moto.DomainDispatcherApplication(moto.create_backend_app)
        serving: Any = importlib.import_module("werkzeug.serving")
        handler = type("Quiet", (moto.MotoRequestHandler,), {"log_request": lambda *_, **__: None})
        self._server: Any = serving.make_server("127.0.0.1", 0, self._gate, threaded=True, request_handler=handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="s3")
        self.delay_s = 0.0
        self.is_away = False
        self.is_read_only = False

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> "GatedS3":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def make_bucket(self) -> str:
        """The URL of a place in a new bucket."""
        s3fs: Any = importlib.import_module("s3fs")
        bucket = uuid.uuid4().hex
        files = s3fs.S3FileSystem(key="test", secret="test", endpoint_url=self.endpoint, skip_instance_cache=True)
        files.mkdir(bucket)
        return f"s3://{bucket}/fovea"

    def heal(self) -> None:
        self.delay_s, self.is_away, self.is_read_only = 0.0, False, False

    def _gate(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.is_away:
            return _refuse(environ, start_response, "503 Service Unavailable", "ServiceUnavailable")
        if self.is_read_only and environ["REQUEST_METHOD"] in _WRITES:
            return _refuse(environ, start_response, "403 Forbidden", "AccessDenied")
        return self._app(environ, start_response)


def _refuse(
    environ: Mapping[str, Any], start_response: Callable[..., Any], status: str, code: str
) -> Iterable[bytes]:
    # A body that nobody reads would be taken for the next request on this connection.
    environ["wsgi.input"].read()
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]
