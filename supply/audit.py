"""`python -m supply.audit`: are there known vulnerabilities among the pins?

Looks into a copy of OSV's database (`--database`, FOVEA_OSV_DB), else asks OSV on the network. Ends with 0 where
every pin was looked up and none is known to be vulnerable, with 1 where one is, and with 3 where no database could
be reached: then nothing was checked, and nothing is said about the pins.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from supply.images import REQUIREMENTS
from supply.osv import DatabaseUnavailable, Finding, from_file, from_network
from supply.pins import Pin, PinUnreadable, read_pins

EXIT_FOUND = 1
EXIT_NOT_CHECKED = 3
OSV = "https://api.osv.dev"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m supply.audit", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="requirement files (all in requirements/)")
    parser.add_argument("--database", type=Path, help="folder, zip or file of OSV's records (FOVEA_OSV_DB)")
    parser.add_argument("--url", default=os.environ.get("FOVEA_OSV_URL") or OSV, help="of OSV (FOVEA_OSV_URL)")
    given = parser.parse_args(arguments)
    database = given.database or (Path(named) if (named := os.environ.get("FOVEA_OSV_DB")) else None)
    try:
        pins = _pins(given.files or sorted(REQUIREMENTS.glob("*.txt")))
    except (PinUnreadable, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        findings, source = _look_up(database, given.url, pins)
    except DatabaseUnavailable as error:
        print(f"NOT CHECKED: no database could be reached, so nothing is known about {len(pins)} pins: {error}")
        print("Give a copy with --database or FOVEA_OSV_DB: docs/operations.md, Supply chain.")
        return EXIT_NOT_CHECKED
    for finding in findings:
        names = ", ".join((finding.id, *finding.known_as))
        print(f"{finding.pin.name} {finding.pin.version}: {names} {finding.summary}".rstrip())
    print(f"{len(pins)} pins were looked up in {source}: {len(findings)} known vulnerabilities")
    return EXIT_FOUND if findings else 0


def _pins(files: Sequence[Path]) -> list[Pin]:
    """Each version once, however many files name it."""
    return sorted({pin for file in files for pin in read_pins(file)}, key=lambda pin: (pin.name, pin.version))


def _look_up(database: Path | None, url: str, pins: Sequence[Pin]) -> tuple[list[Finding], str]:
    if database:
        findings, records = from_file(database, pins)
        return findings, f"{records} records of {database}"
    return from_network(url, pins), url


if __name__ == "__main__":
    sys.exit(main())
