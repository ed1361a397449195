"""The limit of open files is raised as far as the system lets us, in a process of its own each time."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from system.descriptors import raise_descriptor_limit
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(raise_descriptor_limit(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "told", "then"),
    [(64, 512, 100, 100, 100), (64, 80, 100, 80, 80), (256, 512, 100, 256, 256)],
    ids=["raised", "as far as it goes", "never lowered"],
)
def test_the_limit_is_raised(soft: int, hard: int, wanted: int, told: int, then: int) -> None:
    arguments = [str(number) for number in (soft, hard, wanted)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(told), str(then)]
