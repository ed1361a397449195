"""The chaos suite: `python -m chaos.run --seeds 20 --minutes 5`, real processes under load and under faults.

Each seed decides what is asked, which faults come, when, and how long they last. Printed at the end, and written
by `--json FILE`: what each fault did, and whether anything was lost, done twice or answered wrongly. Exit code 1
if so.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil
from _pytest.outcomes import Skipped
from chaos.faults import Fault, all_faults
from chaos.fleet_site import FleetSite
from chaos.ledger import CALM, Json, Ledger, Window, now
from chaos.load import Common, Load
from chaos.report import Run, make_run, merged, table
from chaos.report import as_json as report_as_json
from chaos.site import CLEANUP_S, LEASE_S, Site
from chaos.snapshot import Snapshot, take_snapshot
from chaos.up_site import UpSite
from chaos.verify import LEFT_OVER, LOSS, Finding, verify
from support.colours import make_colour_artifact, picture

from fovea_client import FoveaError
from models.artifact import read_manifest
from storage.database import open_database
from storage.registry import ModelRegistry

SITES: dict[str, type[Site]] = {"up": UpSite, "fleet": FleetSite}
START_S = 120.0
# For so long nothing may happen to any job that has not ended. One whose worker died while it was starting a
# trainer waits for that lease: 30 s more than another one.
STANDSTILL_S = 120.0
# What was told to end and has not been seen to have ended yet.
ENDING_S = 3.0
# A message that could not be acknowledged comes again after 60 s, which is looked at every 5 s, and goes then.
UNACKNOWLEDGED_S = 75.0
GIVEN = [("colours", 1), ("colours", 2), ("colours", 3)]


def main() -> int:
    given = _arguments()
    # Whoever ends this run wants everything ended that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = [(given.seed + number, name) for number in range(given.seeds) for name in given.sites.split(",")]
    runs = [run for seed, name in wanted if (run := run_and_tell(seed, name, given)) is not None]
    print(f"\n{table(merged(runs))}\n")
    found = sum(len(run.findings) for run in runs)
    say(f"{len(runs)} runs from seed {given.seed} on, {found} findings")
    if given.json:
        given.json.write_text(json.dumps(report_as_json(runs), indent=1) + "\n")
    return int(found > 0 or not runs)


def run_and_tell(seed: int, name: str, given: argparse.Namespace) -> Run | None:
    """None where this machine lacks what that form needs."""
    say(f"seed {seed}, {name}, {given.minutes:g} minutes")
    folder = Path(tempfile.mkdtemp(prefix=f"fovea-chaos-{seed}-{name}-", dir=given.folder))
    try:
        run = run_seed(seed, SITES[name](folder), given.minutes, set(filter(None, given.faults.split(","))))
    except Skipped as skipped:
        say(f"{name} is SKIPPED: {skipped}")
        shutil.rmtree(folder)
        return None
    for finding, times in told(run.findings):
        say(f"FOUND {finding.kind} ({finding.fault}), {times} times: {finding.text[:1000]}")
    if run.findings:
        say(f"its ledger, logs and data stay in {folder}")
    else:
        shutil.rmtree(folder)
    say(f"{run.requests} requests, jobs: {dict(run.jobs)}; {len(run.findings)} findings")
    return run


def run_seed(seed: int, site: Site, minutes: float, only: set[str]) -> Run:
    """From nothing to a verdict. Whatever was started has ended and is unmounted afterwards."""
    chance = Random(f"{seed} {type(site).__name__}")
    ledger = Ledger(site.folder / "ledger.jsonl")
    load: Load | None = None
    try:
        publish = prepare_weights(site)
        site.start()
        site.wait_until(site.is_ready, "the service to be ready", START_S)
        publish_given(site)
        common = Common(site.url, ledger, list(GIVEN), publish)
        load = Load(common, str(seed))
        load.start()
        began = time.monotonic()
        for fault in schedule(site, chance, only):
            if time.monotonic() - began > minutes * 60:
                break
            inflict(fault, site, chance, ledger)
            time.sleep(chance.uniform(1.0, 4.0))
        load.stop()
        findings = list(settle(load))
        snapshot = wait_for_rest(site, ledger)
        findings += verify(ledger, snapshot, GIVEN)
    finally:
        if load:
            load.close()
        site.stop()
        left = list(leftovers_of(site))
        site.remove()
    return make_run(seed, site.name, (time.monotonic() - began) / 60, ledger, snapshot, [*findings, *left])


def schedule(site: Site, chance: Random, only: set[str]) -> Iterator[Fault]:
    """Every fault that can be done here in an order of chance, again and again."""
    faults = []
    for fault in all_faults(chance):
        if reason := fault.hindrance(site):
            if site.name == "up" and "root" in reason:
                say(f"{fault.name} is SKIPPED: {reason}")
        elif not only or fault.name in only:
            faults.append(fault)
    while True:
        yield from chance.sample(faults, len(faults))


def inflict(fault: Fault, site: Site, chance: Random, ledger: Ledger) -> None:
    """The fault, its end, and how long it took until everything worked again."""
    began = now()
    # Known at once, for whoever is told an error meanwhile; its end is written when it is known.
    place, unknown = len(ledger.windows), float("inf")
    ledger.windows.append(Window(fault.name, began, unknown, unknown, fault.may_say, fault.limit_s))
    what = fault.inject(site)
    if what:
        time.sleep(chance.uniform(*fault.lasts_s))
    fault.heal(site)
    healed = now()
    ready = wait_until_works(site, fault) if what else healed
    limits = (fault.may_say, fault.limit_s, what, fault.aftermath_s)
    ledger.note(place, Window(fault.name, began, healed, ready, *limits))
    if what:
        say(f"{fault.name}: {what}; {healed - began:.1f} s, works again after {ready - healed:.1f} s")
    else:
        say(f"{fault.name}: there was nothing to do it to")
        del ledger.windows[place]


def wait_until_works(site: Site, fault: Fault) -> float:
    """When it worked again: ready by its own word, and three images in a row are classified."""
    image = picture("red", noise=99)
    deadline, row, first = now() + 2 * fault.limit_s, 0, now()
    while now() < deadline and row < 3:
        try:
            with site.client(4.0) as client:
                is_right = client.classify(image, model="colours:1").label == "red"
            works = is_right and site.is_ready() and fault.is_past(site)
        except FoveaError:
            works = False
        first = first if works and row else now()
        row = row + 1 if works else 0
        time.sleep(0.1)
    return first


def settle(load: Load) -> Iterator[Finding]:
    """Until every client was answered and every job has ended; then every version answers."""
    before, changed = "", now()
    while not load.settle() and now() - changed < STANDSTILL_S:
        if (present := load.open_work()) != before:
            before, changed = present, now()
        time.sleep(0.5)
    if now() - changed >= STANDSTILL_S:
        yield Finding(LOSS, CALM, f"nothing happened for {STANDSTILL_S:.0f} s to what has not ended: {before}")
    load.ask_everything()


def wait_for_rest(site: Site, ledger: Ledger) -> Snapshot:
    """What is there after clean-up and broker have had their turn, or sooner where all is well."""
    deadline = now() + max(4 * CLEANUP_S + 2 * LEASE_S, UNACKNOWLEDGED_S)
    let_staging_grow_old(site)
    while True:
        snapshot = take_snapshot(site)
        is_tidy = not any(finding.kind == LEFT_OVER for finding in verify(ledger, snapshot, GIVEN))
        if is_tidy or now() > deadline:
            return snapshot
        time.sleep(1.0)


def let_staging_grow_old(site: Site) -> None:
    """What a killed writer has left among the blobs goes an hour after its last byte."""
    for folder in site.data_folders:
        for path in folder.glob("blobs/.staging/**/*"):
            with suppress(FileNotFoundError):
                os.utime(path, (0, 0))


def leftovers_of(site: Site) -> Iterator[Finding]:
    """What an ended service has left: processes and sockets."""
    _, alive = psutil.wait_procs(site.survivors(), timeout=ENDING_S)
    for process in alive:
        yield Finding(LEFT_OVER, CALM, f"process {process.pid}: {' '.join(process.cmdline())[:200]}")
        process.kill()
    for folder in site.data_folders:
        for path in folder.rglob("*"):
            if path.is_socket():
                yield Finding(LEFT_OVER, CALM, f"socket {path.relative_to(site.folder)}")


def publish_given(site: Site) -> None:
    """Three versions of a model that tells red, green and blue apart; each has its labels in another order."""
    database = open_database(site.database_url)
    try:
        registry = ModelRegistry(database)
        for model, number in GIVEN:
            made = site.folder / "made" / str(number)
            make_colour_artifact(made)
            # So that no two versions have the same bytes.
            manifest = read_manifest(made)
            site.store.blobs.put_folder(f"models/{model}/{number}", made)
            registry.add_version(
                model, artifact=f"models/{model}/{number}", manifest=manifest.to_dict(), size_bytes=1
            )
    finally:
        database.close()


def prepare_weights(site: Site) -> list[Json]:
    """What can be published: weights of a LeNet-5, and the real MobileNet's where FOVEA_TEST_DATA is."""
    site.weights.mkdir(exist_ok=True)
    program = (
        "import sys, torch; from pathlib import Path; from safetensors.torch import save_file; "
        "from models.zoo import registry; from models.weights.importer import import_weights; "
        "from models.weights.store import WeightsStore; folder = Path(sys.argv[1]); torch.manual_seed(1); "
        "save_file(registry.build('lenet5').state_dict(), folder / 'x.safetensors'); "
        "import_weights(folder / 'x.safetensors', 'lenet5', 'given', WeightsStore(folder)); "
        "(folder / 'x.safetensors').unlink()"
    )
    subprocess.run([sys.executable, "-c", program, str(site.weights)], check=True)
    found: list[Json] = [{"architecture": "lenet5", "weights": "given"}]
    real = Path(os.environ.get("FOVEA_TEST_DATA", "/nowhere"), "weights", "mobilenet_2_5_224_tf.h5")
    if real.exists():
        (site.weights / real.name).symlink_to(real)
        found.append({"architecture": "mobilenet_v1_025", "weights": "imagenet"})
    else:
        say("FOVEA_TEST_DATA is not set: only a LeNet-5 is published")
    return found


def told(findings: Sequence[Finding]) -> Iterator[tuple[Finding, int]]:
    """The first of those that differ in no more than numbers, and how many there are."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        words = re.sub(r"\d+|job_\w+", "#", finding.text)
        alike.setdefault((finding.kind, finding.fault, words), []).append(finding)
    return ((found[0], len(found)) for found in alike.values())


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--minutes", type=float, default=1.5, help="of faults, for each seed and site")
    parser.add_argument("--sites", default="up,fleet", help="up, fleet or both")
    parser.add_argument("--faults", default="", help="only these, by their names, with commas between them")
    parser.add_argument("--json", type=Path, help="the report for programs")
    parser.add_argument("--folder", type=Path, help="where the data lie meanwhile")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
