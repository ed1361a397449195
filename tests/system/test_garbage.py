"""What Python's collector of reference cycles is spared, and what it still finds."""

import subprocess
import sys

import pytest

SCRIPT = """
import gc
import weakref
from system.garbage import collect_new_garbage, pause_collection


class Node: ...


def cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)


pause_collection()
assert not gc.isenabled()
before = cycle()
collect_new_garbage()
assert gc.isenabled()
after = cycle()
gc.collect()
print(before() is not None, after() is None, gc.get_freeze_count() > len(gc.get_objects()))
"""


def test_what_was_there_is_looked_at_no_more_and_what_comes_is() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]


@pytest.mark.parametrize("module", ["service.main", "workers.inference.main", "workers.training.main"])
def test_who_imports_an_entry_point_collects_as_before(module: str) -> None:
    code = f"import gc, {module}; print(gc.isenabled(), gc.get_freeze_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "0"]
