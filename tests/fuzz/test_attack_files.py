"""The corpus of attack files, each through Fovea's real reader in a process of its own.

`FOVEA_FUZZ_SCALE` multiplies the damaged files of each kind; 1 makes about a thousand files.
"""

import os
from collections import Counter
from collections.abc import Iterator
from types import ModuleType

import pytest
from support.attacks import archives, artifacts, backups, images, model_files, texts, weights
from support.jail import Jail, jail

SCALE = int(os.environ.get("FOVEA_FUZZ_SCALE", "1"))
FAMILIES = (archives, artifacts, backups, images, model_files, texts, weights)
LEAST_FILES = {
    archives: 290, artifacts: 85, backups: 110, images: 100, model_files: 100, texts: 110, weights: 100,
}  # fmt: skip


@pytest.fixture(scope="module")
def reading() -> Iterator[Jail]:
    with jail() as made:
        yield made


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.timeout(600 + 600 * SCALE)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.rpartition(".")[2])
def test_no_file_hangs_crashes_escapes_or_speaks_of_the_host(family: ModuleType, reading: Jail) -> None:
    attacks = list(family.attacks(SCALE))
    assert len(attacks) >= LEAST_FILES[family]
    assert len({str(attack) for attack in attacks}) == len(attacks)
    ends: Counter[str] = Counter()
    faults = []
    for attack in attacks:
        outcome = reading.read(attack)
        ends[outcome.end] += 1
        if outcome.end not in ("taken", "refused"):
            faults.append(f"{attack}: {outcome.end}: {outcome.detail[:300]} ({outcome.seconds:.1f} s)")
    print(dict(ends))
    assert not faults, "\n".join(faults)
