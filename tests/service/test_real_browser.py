"""A page of somebody else's in a real browser, beside a Fovea that asks for no key."""

import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from support.served import served
from support.stack import Stack

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH"),
]
# What a page can send without asking first: no header of its own, no content type but a form's or plain text.
ATTACK = """\
<!DOCTYPE html><body><p id="said">nothing</p><img src="GATEWAY/v1/models"><script>
const simple = {method: "POST", mode: "no-cors", headers: {"content-type": "text/plain"}};
const tries = [
  fetch("GATEWAY/v1/models").then(answer => answer.text()),
  fetch("GATEWAY/v1/models/colours", {method: "DELETE"}),
  fetch("GATEWAY/v1/models/colours/versions/1", {method: "DELETE"}),
  fetch("GATEWAY/v1/jobs/JOB/cancel", {method: "POST", mode: "no-cors"}),
  fetch("GATEWAY/v1/datasets?name=planted", {...simple, body: "PK\\x03\\x04"}),
  fetch("GATEWAY/v1/models/colours/classify", {...simple, headers: {Prefer: "respond-async"}, body: "x"}),
];
Promise.allSettled(tries).then(all => {
  const readable = all.filter(one => one.status == "fulfilled" && one.value.type != "opaque");
  document.getElementById("said").textContent = "readable: " + readable.length;
});
</script></body>
"""


@pytest.fixture
def foreign_page(stack: Stack) -> Iterator[str]:
    page = ATTACK.replace("GATEWAY", stack.url).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            return

    with served(Page) as url:
        # Another host than that of the gateway, for a browser.
        yield f"{url.replace('127.0.0.1', 'localhost')}/"


def shown(url: str, profile: Path, *arguments: str) -> tuple[str, str]:
    """The page as it is after its scripts have run, and what the browser complained of."""
    done = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
            "--virtual-time-budget=10000", "--enable-logging=stderr", *arguments, "--dump-dom", url,
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_a_foreign_page_reads_nothing_and_changes_nothing(stack: Stack, foreign_page: str, tmp_path: Path) -> None:
    page, complaints = shown(foreign_page, tmp_path)
    assert "readable: 0" in page
    assert "CORS" in complaints
    assert httpx.get(f"{stack.url}/v1/models/colours").json()["versions"] == 1
    assert httpx.get(f"{stack.url}/v1/datasets").json()["items"] == []
    assert httpx.get(f"{stack.url}/v1/jobs").json()["items"] == []
    # They did arrive, and were refused: reading, deleting twice, cancelling, uploading, classifying, the picture.
    assert stack.log("gateway").count('"code": "foreign_origin"') >= 6


def test_a_page_whose_name_leads_to_us_is_not_answered(stack: Stack, tmp_path: Path) -> None:
    rebound = f"http://rebound.example:{stack.port}/v1/models"
    page, _ = shown(rebound, tmp_path, "--host-resolver-rules=MAP rebound.example 127.0.0.1")
    assert "foreign_host" in page
    assert "colours" not in page


def test_the_documentation_works_under_its_policy(stack: Stack, tmp_path: Path) -> None:
    page, complaints = shown(
        f"{stack.url}/docs", tmp_path, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    )
    assert 'data-path="/v1/models/{reference}/classify"' in page
    assert complaints == ""
