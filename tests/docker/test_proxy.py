"""The examples of a reverse proxy work: TLS in front of a real gateway, bodies and events through it."""

import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
from support.stack import Stack, free_port

from service.protocol import open_inference_pb2 as pb

PROXY = Path(__file__).parent.parent.parent / "docker/proxy"
# More than nginx lets through by itself, and no dataset.
# Larger than a proxy takes by itself, and by its first bytes an archive, which is all that the gateway looks at.
BODY = b"PK\x03\x04" + b"not an archive" * 200_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("proxied"), {"FOVEA_GRPC_PORT": str(free_port())})
    try:
        yield stack.start("gateway")
    finally:
        stack.stop()


@contextmanager
def running(
    command: list[str | Path], url: str, environment: dict[str, str] | None = None
) -> Iterator[httpx.Client]:
    """A client of the proxy, which takes its certificate without asking who signed it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=url, verify=context, trust_env=False, timeout=10) as client:
            for _ in range(100):
                assert process.poll() is None, process.stdout and process.stdout.read().decode()
                try:
                    client.get("/livez")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.communicate(timeout=20)


def check_grpc(port: int) -> None:
    """Over TLS, by the certificate that the proxy shows."""
    address = f"127.0.0.1:{port}"
    shown = ssl.get_server_certificate(("localhost", port)).encode()
    options = [("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(shown), options) as channel:
        live = channel.unary_unary(
            "/inference.GRPCInferenceService/ServerLive",
            request_serializer=pb.ServerLiveRequest.SerializeToString,
            response_deserializer=pb.ServerLiveResponse.FromString,
        )
        assert live(pb.ServerLiveRequest(), timeout=10).live


def check(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/metrics").status_code == 404
    accepted = client.post("/v1/datasets?name=big", content=BODY, headers={"content-type": "application/zip"})
    assert accepted.status_code == 202, accepted.text
    with client.stream("GET", f"/v1/jobs/{accepted.json()['job']['id']}/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        # It comes through although the job is queued and its stream stays open.
        assert next(events.iter_lines())


def test_caddy(gateway: Stack, tmp_path: Path) -> None:
    program = shutil.which("caddy")
    if not program:
        pytest.skip("caddy is not installed (Debian: caddy)")
    port = free_port()
    environment = {
        "HOME": str(tmp_path),
        "CADDY_ADMIN": f"localhost:{free_port()}",
        "FOVEA_SITE": f"https://localhost:{port}",
        "FOVEA_HTTP_PORT": str(free_port()),
        "FOVEA_UPSTREAM": f"127.0.0.1:{gateway.port}",
        "FOVEA_GRPC_UPSTREAM": f"127.0.0.1:{gateway.environment['FOVEA_GRPC_PORT']}",
    }
    with running(
        [program, "run", "--config", PROXY / "Caddyfile"], f"https://localhost:{port}", environment
    ) as client:
        check(client)
        check_grpc(port)


def test_nginx(gateway: Stack, tmp_path: Path) -> None:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if not program:
        pytest.skip("nginx is not installed (Debian: nginx)")
    port = free_port()
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    signing = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*signing, "-keyout", key, "-out", certificate], capture_output=True, check=True)
    site = (PROXY / "nginx.conf").read_text()
    for here, there in (
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/letsencrypt/live/fovea.example.com", str(tmp_path)),
        ("127.0.0.1:8000", f"127.0.0.1:{gateway.port}"),
        ("127.0.0.1:8001", f"127.0.0.1:{gateway.environment['FOVEA_GRPC_PORT']}"),
    ):
        assert here in site
        site = site.replace(here, there)
    (tmp_path / "site.conf").write_text(site)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; user root; pid {tmp_path}/pid; error_log stderr; events {{}} "
        f"http {{ access_log off; client_body_temp_path {tmp_path}; include {tmp_path}/site.conf; }}"
    )
    with running([program, "-c", tmp_path / "nginx.conf"], f"https://127.0.0.1:{port}") as client:
        check(client)
        check_grpc(port)
