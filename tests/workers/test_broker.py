"""kombu's transport as a worker uses it, over a way to Redis that breaks."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from support.proxy import Proxy
from support.redis import RedisServer

from workers.celery_app import KEY_PREFIX, make_celery
from workers.redis_url import connect

# A worker of one slot, whose task lasts until a file is there.
WORKER = """
import pathlib, sys, time
from workers.celery_app import make_celery, run_consumer

app = make_celery(sys.argv[1], role="training")
folder = pathlib.Path(sys.argv[2])

@app.task(name="test.wait")
def wait(name):
    (folder / f"{name}.begun").touch()
    while not (folder / name).exists():
        time.sleep(0.01)

sys.exit(run_consumer(app, "training@test", ["training", "inference.interactive"], 1))
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


def test_redis_is_told_of_a_job_that_a_worker_has_and_not_of_a_batch(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, redis_server.url, str(tmp_path)])
    unacknowledged = f"{KEY_PREFIX}unacked.training"
    try:
        celery = make_celery(redis_server.url, role="training")
        with connect(redis_server.url) as broker:
            for queue, recorded in (("training", 1), ("inference.interactive", 0)):
                celery.send_task("test.wait", (queue,), queue=queue)
                assert appears(tmp_path / f"{queue}.begun", worker)
                assert broker.hlen(unacknowledged) == recorded
                (tmp_path / queue).touch()
                assert until(lambda: broker.hlen(unacknowledged) == 0)
            # One is held and one waits, more than its only slot takes: a batch counts as held, too.
            for name in ("first", "second", "third"):
                celery.send_task("test.wait", (name,), queue="inference.interactive")
            assert appears(tmp_path / "first.begun", worker)
            assert broker.llen(f"{KEY_PREFIX}inference.interactive") >= 1
            # What was not begun goes back to its queue when the worker is told to end.
            worker.terminate()
            time.sleep(0.5)
            (tmp_path / "first").touch()
            (tmp_path / "second").touch()
            assert worker.wait(30) == 0
            begun = {name for name in ("first", "second", "third") if (tmp_path / f"{name}.begun").exists()}
            assert broker.llen(f"{KEY_PREFIX}inference.interactive") == 3 - len(begun)
    finally:
        worker.kill()
        worker.wait()


def until(holds: Callable[[], bool], within_s: float = 20) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end and not holds():
        time.sleep(0.02)
    return holds()
