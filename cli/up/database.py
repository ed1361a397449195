"""Brings the database up to date before anything opens it: `python -m cli.up.database [--keys]`.

With `--keys` the last line of its output is JSON with API keys, for a gateway that others than this machine reach:
`session`, for `up` itself and a day long, and `first`, for the user, unless there is a key already.
"""

import json
import os
import sys
from datetime import UTC, datetime, timedelta

from cli.actor import act_as_user
from storage.database import migrate, open_database
from storage.keys import KeyRing


def main(arguments: list[str]) -> int:
    url = os.environ["FOVEA_DATABASE_URL"]
    migrate(url)
    if "--keys" in arguments:
        print(json.dumps(_make_keys(url)))
    return 0


def _make_keys(url: str) -> dict[str, str | None]:
    act_as_user()
    database = open_database(url)
    try:
        ring = KeyRing(database)
        first = None if ring.any() else ring.create("first", ["admin"])[1]
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        return {"first": first, "session": ring.create("fovea-up", ["admin"], tomorrow)[1]}
    finally:
        database.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
