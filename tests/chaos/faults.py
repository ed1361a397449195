"""What is done to a Fovea while clients use it: each fault is injected, lasts a while, and is healed.

`may_say` are the error codes that a client may be told meanwhile; `limit_s` is how soon after its end everything
has to work again, on a machine that has other work too. `chance` is the seed's.
"""

import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil
from chaos.ledger import UNREACHABLE
from chaos.site import LEASE_S, Site, connected
from chaos.store import FolderStore, S3Store
from chaos.up_site import UpSite

from storage.database import open_database
from storage.registry import ModelRegistry

UNSERVED = frozenset({"no_worker", "deadline_exceeded"})
QUEUE_LOST = UNSERVED | {"broker_unavailable", "image_lost"}
# One whose supervisor was killed is told to end, and so are those whom it does not answer in time.
GATEWAY_GONE = UNSERVED | {UNREACHABLE, "stopping"}
STORE_GONE = frozenset({"blobs_unavailable", "artifact_unusable"})
DISK_FULL = QUEUE_LOST | STORE_GONE | {"disk_full", "disk_failed", "database_unavailable"}
# A process that stands still inside a transaction holds SQLite's lock.
LOCK_HELD = frozenset({"database_unavailable"})


@dataclass
class Fault:
    name: str
    chance: Random
    may_say: frozenset[str] = frozenset()
    limit_s: float = 60.0
    lasts_s: tuple[float, float] = (0.0, 0.0)
    # For so long after everything works again somebody may still meet what it has left.
    aftermath_s: float = 0.0

    def hindrance(self, site: Site) -> str | None:
        """Why it cannot be done here; None where it can."""

    def inject(self, site: Site) -> str:
        """Returns what exactly was done; empty where there was nothing to do it to."""
        raise NotImplementedError

    def heal(self, site: Site) -> None:
        """After `lasts_s`; for most a process is started again by itself."""

    def is_past(self, site: Site) -> bool:  # noqa: ARG002
        """Whether what was taken away is there again, for another may have stood in for it."""
        return True


@dataclass
class Kill(Fault):
    """SIGKILL."""

    role: str = ""
    _killed: int = field(default=0, init=False)

    def hindrance(self, site: Site) -> str | None:
        return None if self.role != "supervisor" or isinstance(site, UpSite) else "there is no supervisor"

    def inject(self, site: Site) -> str:
        process = _wait_for(site, self.role)
        if process is None:
            return ""
        self._killed = process.pid
        with suppress(psutil.NoSuchProcess):
            process.kill()
        return f"pid {process.pid}"

    def is_past(self, site: Site) -> bool:
        """A trainer's work goes on with its job; of a worker the successor has to be heard."""
        if self.role == "trainer":
            return True
        process = site.process(self.role)
        if process is None or process.pid == self._killed:
            return False
        return self.role not in ("inference", "training") or site.hears(process.pid)


@dataclass
class Pause(Fault):
    """SIGSTOP for longer than a lease, then SIGCONT."""

    role: str = ""
    lasts_s: tuple[float, float] = (1.3 * LEASE_S, 2.5 * LEASE_S)
    _stopped: psutil.Process | None = field(default=None, init=False)

    def inject(self, site: Site) -> str:
        self._stopped = _wait_for(site, self.role)
        if self._stopped is None:
            return ""
        with suppress(psutil.NoSuchProcess):
            self._stopped.suspend()
        return f"pid {self._stopped.pid}"

    def heal(self, site: Site) -> None:  # noqa: ARG002  # the one that was stopped, whoever has its role by now
        if self._stopped is not None:
            with suppress(psutil.NoSuchProcess):
                self._stopped.resume()


@dataclass
class Flush(Fault):
    """FLUSHALL: everything that the server held is gone at once."""

    server: str = ""

    def inject(self, site: Site) -> str:
        with closing(connected(site.redis[self.server])) as server:
            keys = server.dbsize()
            server.flushall()
        return f"{keys} keys"


@dataclass
class Network(Fault):
    """The way to a Redis server: `way` is slow, dead, torn or closed."""

    server: str = ""
    way: str = ""
    lasts_s: tuple[float, float] = (3.0, 8.0)

    def hindrance(self, site: Site) -> str | None:
        return None if site.proxies else "Redis is reached by a socket, not by a network"

    def inject(self, site: Site) -> str:
        proxy = site.proxies[self.server]
        if self.way == "slow":
            delay = self.chance.uniform(0.1, 0.5)
            proxy.delay(delay)
            return f"{delay:.2f} s for every piece"
        {"dead": proxy.go_dead, "torn": proxy.reset, "closed": proxy.refuse}[self.way]()
        return self.way

    def heal(self, site: Site) -> None:
        site.proxies[self.server].heal()


@dataclass
class PostgresRestart(Fault):
    lasts_s: tuple[float, float] = (0.5, 5.0)

    def hindrance(self, site: Site) -> str | None:
        return None if hasattr(site, "postgres") else "the database is SQLite"

    def inject(self, site: Site) -> str:
        site.postgres.stop()  # type: ignore[attr-defined]
        return "stopped at once"

    def heal(self, site: Site) -> None:
        site.postgres.start()  # type: ignore[attr-defined]


@dataclass
class FullDisk(Fault):
    lasts_s: tuple[float, float] = (4.0, 8.0)

    def hindrance(self, site: Site) -> str | None:
        return None if site.disk else "only root can mount a small disk, and only for the folder of `fovea up`"

    def inject(self, site: Site) -> str:
        assert site.disk
        site.disk.fill()
        return "not a byte more"

    def heal(self, site: Site) -> None:
        assert site.disk
        site.disk.heal()


@dataclass
class StoreFault(Fault):
    """The blobs are `away`, `read-only` or `slow`."""

    way: str = ""
    lasts_s: tuple[float, float] = (3.0, 7.0)

    def hindrance(self, site: Site) -> str | None:
        if self.way == "slow" and not isinstance(site.store, S3Store):
            return "a folder is not slowed down"
        if self.way == "read-only" and isinstance(site.store, FolderStore) and not site.disk:
            return "only root can mount a folder read-only"
        return None

    def inject(self, site: Site) -> str:
        if self.way == "slow":
            assert isinstance(site.store, S3Store)
            delay = self.chance.uniform(0.2, 0.8)
            site.store.slow_down(delay)
            return f"{delay:.2f} s for every answer"
        (site.store.go_away if self.way == "away" else site.store.forbid_writes)()
        return self.way

    def heal(self, site: Site) -> None:
        site.store.heal()


@dataclass
class DamagedArtifact(Fault):
    """A version's network is cut off or altered in the store, and a worker has to load it: its own is killed."""

    way: str = ""
    lasts_s: tuple[float, float] = (5.0, 9.0)
    _saved: tuple[str, bytes] | None = field(default=None, init=False)

    def inject(self, site: Site) -> str:
        with closing(open_database(site.database_url)) as database:
            versions = ModelRegistry(database).list_versions("colours", 50).items
        version = self.chance.choice(versions)
        key = f"{version.artifact.rstrip('/')}/model.onnx"
        content = site.store.blobs.get_bytes(key)
        self._saved = (key, content)
        site.store.blobs.put_bytes(key, _damaged(content, self.way, self.chance))
        _kill(site, "inference")
        return f"{self.way}: {key}"

    def heal(self, site: Site) -> None:
        if self._saved:
            site.store.blobs.put_bytes(*self._saved)
            self._saved = None


@dataclass
class DamagedCopy(Fault):
    """The same to a worker's own copy; nobody mends it but the worker."""

    way: str = ""

    def hindrance(self, site: Site) -> str | None:
        return "a worker reads the store's own folder" if isinstance(site.store, FolderStore) else None

    def inject(self, site: Site) -> str:
        found = [path for folder in site.data_folders for path in folder.glob("cache/blobs/*/model.onnx")]
        if not found:
            return ""
        path: Path = self.chance.choice(sorted(found))
        path.write_bytes(_damaged(path.read_bytes(), self.way, self.chance))
        _kill(site, "inference")
        return f"{self.way}: {path.parent.name}"


def all_faults(chance: Random) -> list[Fault]:
    told: dict[str, frozenset[str]] = {
        "gateway": GATEWAY_GONE,
        "inference": UNSERVED,
        "training": frozenset(),
        "trainer": frozenset(),
        "broker": QUEUE_LOST,
        "transit": QUEUE_LOST,
        "supervisor": QUEUE_LOST | GATEWAY_GONE | LOCK_HELD,
    }
    faults: list[Fault] = [Kill(f"kill {role}", chance, codes, role=role) for role, codes in told.items()]
    for role in ("gateway", "inference", "training", "trainer"):
        faults.append(Pause(f"pause {role}", chance, told[role] | LOCK_HELD, role=role))
    for server in ("broker", "transit"):
        faults.append(Flush(f"flush {server}", chance, QUEUE_LOST, server=server))
        for way in ("slow", "dead", "torn", "closed"):
            name = f"network to {server} {way}"
            # A connection that died in a pool looks alive until it is used, and then for its timeout of 10 s.
            aftermath_s = 30.0 if way == "dead" else 0.0
            faults.append(Network(name, chance, QUEUE_LOST, server=server, way=way, aftermath_s=aftermath_s))
    faults.append(PostgresRestart("PostgreSQL restarted", chance, LOCK_HELD))
    faults.append(FullDisk("disk full", chance, DISK_FULL))
    for way in ("away", "read-only", "slow"):
        faults.append(StoreFault(f"store {way}", chance, STORE_GONE, way=way))
    for way in ("truncated", "altered"):
        faults.append(DamagedArtifact(f"artifact {way} in the store", chance, UNSERVED | STORE_GONE, way=way))
        faults.append(DamagedCopy(f"artifact {way} in a cache", chance, UNSERVED, way=way))
    return faults


def _wait_for(site: Site, role: str, timeout_s: float = 10.0) -> psutil.Process | None:
    """A trainer lives for the length of a job only."""
    deadline = time.monotonic() + timeout_s
    find: Callable[[], psutil.Process | None] = lambda: site.process(role)  # noqa: E731
    while (process := find()) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return process


def _kill(site: Site, role: str) -> None:
    if (process := site.process(role)) is not None:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _damaged(content: bytes, way: str, chance: Random) -> bytes:
    place = chance.randrange(len(content) // 4, len(content))
    if way == "truncated":
        return content[:place]
    altered = bytearray(content)
    altered[place] ^= 1 << chance.randrange(8)
    return bytes(altered)
