"""Made-up requests by the API's own description: nothing breaks, and every answer is one that is described.

`make fuzz` does the same for longer; `FOVEA_FUZZ_SEED` repeats a run, `FOVEA_FUZZ_EXAMPLES` sets its length.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.conftest import EXAMPLES, Target
from support.pages import ROOT

LONGEST_ANSWER_S = 10
# What is right by the description can still be wrong by its content: bytes that are no image, a name not there.
LEFT_OUT = "positive_data_acceptance"


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_whatever_is_sent_the_answer_is_one_that_is_described(target: Target, seed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            f"--config-file={Path(__file__).with_name('schemathesis.toml')}",
            "run",
            f"{target.stack.url}/openapi.json",
            f"--header=Authorization: {target.key}",
            f"--seed={seed}",
            f"--max-examples={EXAMPLES}",
            f"--exclude-checks={LEFT_OUT}",
            f"--max-response-time={LONGEST_ANSWER_S}",
            f"--request-timeout={LONGEST_ANSWER_S * 3}",
            "--generation-database=none",
            "--continue-on-failure",
        ],
        cwd=tmp_path,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "fuzz.hooks",
            "PYTHONPATH": str(ROOT / "tests"),
            "PYTHONWARNINGS": "default",
            "FOVEA_FUZZ_KNOWN": json.dumps(target.known),
            "FOVEA_FUZZ_SECRETS": json.dumps(target.secrets),
        },
        capture_output=True,
        text=True,
    )
    print(done.stdout[-20_000:])
    assert done.returncode == 0, done.stderr[-3000:]
    target.check_health()
