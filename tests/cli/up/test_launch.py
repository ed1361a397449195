import subprocess
import time
from pathlib import Path

import pytest

from cli.up.launch import UpOptions, children


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.4])
def test_a_gateway_that_is_still_starting_ends_without_a_word(seconds: float) -> None:
    spec = next(spec for spec in children({}, []) if spec.name == "gateway")
    with subprocess.Popen(spec.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as gateway:
        time.sleep(seconds)
        gateway.send_signal(spec.stop_signal)
        said, _ = gateway.communicate(timeout=10)
    assert said == ""


@pytest.mark.parametrize(("asked", "training"), [("auto", "auto"), ("cpu", "cpu"), ("tensorrt", "cuda")])
def test_what_trains_is_told_a_device_that_can(asked: str, training: str, tmp_path: Path) -> None:
    assert UpOptions(tmp_path, device=asked).training_device == training
