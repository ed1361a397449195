"""Gateways that need keys, on one database and one Redis; no workers."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from support.stack import Stack, free_port

from storage.database import Database, open_database
from storage.keys import Key, KeyLimits, KeyRing


@dataclass
class Gateways:
    """`database` is theirs, past the gateways; `stacks` is one for each gateway."""

    stacks: list[Stack]
    database: Database
    ring: KeyRing = field(init=False)

    def __post_init__(self) -> None:
        self.ring = KeyRing(self.database)

    @property
    def urls(self) -> list[str]:
        return [stack.url for stack in self.stacks]

    @property
    def redis_url(self) -> str:
        return self.stacks[0].redis.url

    def key(
        self, *scopes: str, expires_at: datetime | None = None, name: str = "test", **limits: int
    ) -> tuple[Key, dict[str, str]]:
        """A new key and the header that it is sent in."""
        key, token = self.ring.create(name, scopes, expires_at, KeyLimits(**limits))
        return key, bearer(token)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@contextmanager
def running_gateways(count: int, **environment: str) -> Iterator[Gateways]:
    folder = Path(tempfile.mkdtemp(prefix="fovea-gateways-"))
    first = Stack(folder, {"FOVEA_HOST": "0.0.0.0", **environment})
    first.redis.start()
    first.prepare()
    first.make_key("admin")
    stacks = [first, *(replace(first, port=free_port(), processes={}) for _ in range(count - 1))]
    database = open_database(first.database_url)
    try:
        for stack in stacks:
            stack.start_process("gateway")
        for stack in stacks:
            stack.wait_until(stack.alive, "a gateway to answer")
        yield Gateways(stacks, database)
    finally:
        for stack in reversed(stacks):
            stack.stop()
        database.close()
        shutil.rmtree(folder, ignore_errors=True)
