"""kombu's transport as a worker uses it, over a way to Redis that breaks."""

import subprocess
import sys
import time
from pathlib import Path

from support.proxy import Proxy
from support.redis import RedisServer

from workers.celery_app import make_celery

# A worker of one slot, whose task lasts until a file is there.
WORKER = """
import gc, pathlib, sys, time
from system.garbage import pause_collection
from workers.celery_app import make_celery, run_consumer

pause_collection()
app = make_celery(sys.argv[1], role="training")
folder = pathlib.Path(sys.argv[2])

@app.task(name="test.wait")
def wait(name):
    (folder / f"{name}.begun").write_text(f"{gc.isenabled()} {gc.get_freeze_count() > 10_000}")
    while not (folder / name).exists():
        time.sleep(0.01)

sys.exit(run_consumer(app, "training@test", ["training"], 1))
"""


def appears(file: Path, worker: "subprocess.Popen[bytes]", within_s: float = 40) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until and worker.poll() is None:
        if file.exists():
            return True
        time.sleep(0.02)
    return False


def test_a_worker_whose_way_to_the_broker_broke_while_its_only_slot_was_taken_takes_the_next_message(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """There is no read under way then that would fail: the acknowledgement is what meets the broken connection."""
    proxy = Proxy(redis_server.folder / "redis.sock").start()
    worker = subprocess.Popen([sys.executable, "-c", WORKER, f"redis://127.0.0.1:{proxy.port}/0", str(tmp_path)])
    try:
        celery = make_celery(redis_server.url, role="training")
        celery.send_task("test.wait", ("first",), queue="training")
        assert appears(tmp_path / "first.begun", worker)
        assert (tmp_path / "first.begun").read_text() == "True True", "garbage is collected, but for what started"
        proxy.refuse()
        (tmp_path / "first").touch()
        # Long enough for the acknowledgement to be tried.
        time.sleep(2)
        proxy.heal()
        celery.send_task("test.wait", ("second",), queue="training")
        assert appears(tmp_path / "second.begun", worker)
        (tmp_path / "second").touch()
        worker.terminate()
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()
        proxy.stop()
