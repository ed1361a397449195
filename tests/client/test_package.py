"""The distribution `fovea-client` as somebody gets it who has nothing else of Fovea."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.colours import picture
from support.pages import ROOT, Page
from support.stack import Stack

import fovea_client

CLIENT = ROOT / "client"
# httpx and what it needs by itself.
WITH_HTTPX = {"httpx", "httpcore", "h11", "anyio", "idna", "certifi", "sniffio", "typing-extensions"}


def test_it_requires_httpx_and_nothing_else_and_says_that_it_is_typed() -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    assert [re.split("[<>=]", requirement)[0] for requirement in project["dependencies"]] == ["httpx"]
    assert "optional-dependencies" not in project
    assert (CLIENT / "fovea_client" / "py.typed").exists()
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["version"], project["requires-python"]) == (whole["version"], whole["requires-python"])


def test_what_is_exported_is_there_and_in_order() -> None:
    assert fovea_client.__all__ == sorted(fovea_client.__all__)
    assert all(hasattr(fovea_client, name) for name in fovea_client.__all__)


@pytest.mark.slow
def test_it_installs_into_an_empty_environment_and_the_readmes_lines_work_there(
    stack: Stack, tmp_path: Path
) -> None:
    uv = Path(sys.executable).parent / "uv"
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "env"], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, CLIENT], check=True)
    listed = subprocess.run(
        [uv, "pip", "list", "--quiet", "--format", "freeze", "--python", python],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    installed = {re.split("==| @ ", line)[0] for line in listed.stdout.splitlines()}
    assert {"fovea-client", "httpx"} <= installed <= WITH_HTTPX | {"fovea-client"}

    stack.publish("models/digits/1/", "digits")
    (tmp_path / "data/samples").mkdir(parents=True)
    (tmp_path / "data/samples/digit-7-0.png").write_bytes(picture("red"))
    lines = Page("README.md").blocks("python")[0]
    said = subprocess.run(
        [python, "-W", "error", "-c", lines],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "FOVEA_URL": stack.url}, capture_output=True, text=True,
    )  # fmt: skip
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == "red\n"
    # Its types are found there too.
    program = tmp_path / "program.py"
    program.write_text(
        "from fovea_client import AsyncFovea, Fovea, Job\n"
        "def learn(fovea: Fovea) -> Job:\n"
        "    reveal_type(fovea.classify('x.png', model='m'))\n"
        "    reveal_type(fovea.classify(['x.png'], model='m'))\n"
        "    reveal_type(fovea.models.get('m'))\n"
        "    return fovea.jobs.get('job_1').wait(progress=True)\n"
        "async def learn_too(fovea: AsyncFovea) -> None:\n"
        "    reveal_type(await (await fovea.jobs.get('job_1')).wait())\n"
        "    reveal_type([model async for model in fovea.models.list()])\n"
    )
    types = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "program.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    revealed = re.findall(r'Revealed type is "(.+)"', types.stdout)
    short = [re.sub(r"[\w.]+\.(?=\w)", "", found) for found in revealed]
    assert short == ["Prediction", "list[Prediction]", "Model", "Job[Async]", "list[Model]"], types.stdout
    assert types.returncode == 0, types.stdout
