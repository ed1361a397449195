"""What a log holds of an error: where it came about, never what the variables held, and no password of a URL."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import GatewaySettings
from storage.secret_url import redacted
from workers.settings import WorkerSettings

MARK = "s3cr3tpw"

# What an attempt does that ends in an error which nobody foresaw: the settings and its token are variables.
FAILING = """
import logging, sys
from pathlib import Path
import structlog
from storage.database import migrate, open_database
from storage.job_ledger import JobLedger
from workers.jobs.attempt import run_attempt, take
from workers.logs import configure_logging
from workers.settings import WorkerSettings

settings = WorkerSettings()
configure_logging("training", form=settings.log_format, level=settings.log_level)
database = f"sqlite:///{sys.argv[1]}/fovea.db"
migrate(database)
ledger = JobLedger(open_database(database))

def work(running):
    url, broker_url, everything = settings.database_url, settings.broker_url, settings
    raise RuntimeError(f"no answer of {url} and {broker_url}")

attempt = take(ledger, ledger.create("finetune", {}).id, "me", 30)
Path(sys.argv[1], "token").write_text(attempt.token)
run_attempt(ledger, attempt, work, lease_s=30)
logging.getLogger("kombu").error("cannot reach %s", settings.broker_url)
structlog.get_logger().error("odd", nested={"urls": [settings.broker_url]}, settings=settings, path=Path("/x"))
"""
SECRETS = {
    "FOVEA_DATABASE_URL": f"postgresql://fovea:{MARK}@database/fovea",
    "FOVEA_BLOBS_URL": f"s3://key:{MARK}@bucket/blobs",
    "FOVEA_BROKER_URL": f"redis://:{MARK}%22%40@broker:6379/0?password={MARK}",
    "FOVEA_TRANSIT_URL": f"sentinel://:{MARK}@a,b/0?master_name=m&sentinel_password={MARK}",
    "FOVEA_WEIGHTS_URL": f"https://me:{MARK}@mirror/weights",
    "FOVEA_TRACES_URL": f"http://me:{MARK}@collector:4318",
}
MAINS = ("service.main", "workers.inference.main", "workers.training.main", "workers.training.runner")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_failing_job_leaves_its_traceback_in_the_log_and_no_secret(form: str, tmp_path: Path) -> None:
    environment = {**os.environ, **SECRETS, "FOVEA_LOG_FORMAT": form}
    done = subprocess.run(
        [sys.executable, "-c", FAILING, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    assert "RuntimeError: no answer of postgresql://...@database/fovea and redis://...@broker" in done.stderr
    assert 'File \\"' in done.stderr or 'File "' in done.stderr
    assert "odd" in done.stderr
    assert MARK not in done.stderr
    assert (tmp_path / "token").read_text() not in done.stderr
    if form == "json":
        assert all(json.loads(line)["role"] == "training" for line in done.stderr.splitlines())


@pytest.mark.parametrize("kind", [GatewaySettings, WorkerSettings])
def test_settings_are_printed_without_their_urls(
    kind: type[GatewaySettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    settings = kind()
    assert settings.broker_url == SECRETS["FOVEA_BROKER_URL"]
    assert MARK not in f"{settings!r} {settings}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("FOVEA_LOG_LEVEL", "loud", "FOVEA_LOG_LEVEL: it should be 'DEBUG', "),
        ("FOVEA_DATABASE_URL", f"mysql://me:{MARK}@host/name", "a database that Fovea cannot use"),
        ("FOVEA_BLOBS_URL", f"nowhere://me:{MARK}@host/name", "The blobs' URL"),
        ("FOVEA_BROKER_URL", f"redis://:12/{MARK}@host", "cannot be read"),
    ],
)
def test_a_mistake_in_the_settings_is_one_line_and_no_traceback(
    setting: str, value: str, said: str, tmp_path: Path
) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-m", main],
            cwd=tmp_path,
            env={**os.environ, setting: value, "FOVEA_LOG_FORMAT": "json"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for main in MAINS[: 4 if setting == "FOVEA_LOG_LEVEL" else 3]
    ]
    for process in running:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 2, told
        (line,) = told.splitlines()
        assert said in json.loads(line)["reason"]
        assert MARK not in told


def test_only_what_is_secret_of_a_url_is_hidden() -> None:
    for text in ("a@b.example", "https://host/photo@2x.png", "no url", 'File "/x.py", line 3, in f'):
        assert redacted(text) == text
    assert redacted("redis://:a@b@c:1/0 and s3://k:s@b/x") == "redis://...@c:1/0 and s3://...@b/x"
    assert redacted("x://h/?db=1&password=a&ssl_key=b") == "x://h/?db=1&password=...&ssl_key=..."
    assert re.fullmatch(
        r"sentinel://\.\.\.@a:1/0;sentinel://\.\.\.@b:2/0", redacted("sentinel://:p@a:1/0;sentinel://:p@b:2/0")
    )
