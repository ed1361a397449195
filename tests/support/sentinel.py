"""A Redis master, its replica and three Sentinels: real processes on free ports, with passwords."""

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import redis
from redis.sentinel import MasterNotFoundError, Sentinel
from support.stack import free_port

from cli.up.redis_server import find_redis

MASTER = "fovea-broker"


@dataclass
class SentinelledRedis:
    """`password` is the servers', `sentinel_password` the Sentinels' own; both have what a URL must escape."""

    password: str = "serv/er:p@ss?"
    sentinel_password: str = "watch&er=p@ss"
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="fovea-sentinel-")))
    servers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    sentinels: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        secret = quote(self.sentinel_password, safe="")
        return (
            f"sentinel://:{quote(self.password, safe='')}@{hosts}/0"
            f"?master_name={MASTER}&sentinel_password={secret}"
        )

    def start(self) -> "SentinelledRedis":
        master, replica = free_port(), free_port()
        self.start_server(master)
        self.start_server(replica, replica_of=master)
        for _ in range(3):
            self._start_sentinel(free_port(), master)
        self._wait(lambda: self.master_port() == master, "the Sentinels to know the master")
        self._wait(lambda: self._followers(master) == 1, "the replica to follow")
        self._wait(self._all_know_all, "the Sentinels to know each other and the replica")
        return self

    def start_server(self, port: int, replica_of: int | None = None) -> None:
        follow = ["--replicaof", "127.0.0.1", str(replica_of)] if replica_of else []
        options = [
            *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""),
            *("--requirepass", self.password, "--masterauth", self.password, "--repl-diskless-sync-delay", "0"),
        ]
        self.servers[port] = self._run(["redis-server", *options, *follow])

    def kill_master(self) -> int:
        """The port of the one that is gone."""
        port = self.master_port()
        assert port
        process = self.servers.pop(port)
        process.kill()
        process.wait(10)
        return port

    def master_port(self) -> int | None:
        try:
            return int(self._watchers().discover_master(MASTER)[1])
        except MasterNotFoundError:
            return None

    def remove(self) -> None:
        for process in [*self.sentinels.values(), *self.servers.values()]:
            process.kill()
            process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start_sentinel(self, port: int, master: int) -> None:
        file = self.folder / f"sentinel-{port}.conf"
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f'requirepass "{self.sentinel_password}"',
            f"sentinel monitor {MASTER} 127.0.0.1 {master} 2",
            f'sentinel auth-pass {MASTER} "{self.password}"',
            f'sentinel sentinel-pass "{self.sentinel_password}"',
            f"sentinel down-after-milliseconds {MASTER} 700",
            f"sentinel failover-timeout {MASTER} 3000",
        ]
        file.write_text("\n".join(lines))
        self.sentinels[port] = self._run(["redis-server", str(file), "--sentinel"])

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        binary = str(find_redis().path)
        return subprocess.Popen(
            [binary, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder
        )

    def _watchers(self) -> Sentinel:
        addresses = [("127.0.0.1", port) for port in self.sentinels]
        return Sentinel(addresses, sentinel_kwargs={"password": self.sentinel_password, "socket_timeout": 1})

    def _followers(self, port: int) -> int:
        with redis.Redis(port=port, password=self.password) as client:
            found = client.info("replication")
        return sum(isinstance(value, dict) and value.get("state") == "online" for value in found.values())

    def _all_know_all(self) -> bool:
        for port in self.sentinels:
            with redis.Redis(port=port, password=self.sentinel_password) as client:
                (state,) = client.sentinel_masters().values()
            if (state["num-slaves"], state["num-other-sentinels"]) != (1, len(self.sentinels) - 1):
                return False
        return True

    def _wait(self, holds: object, what: str) -> None:
        assert callable(holds)
        deadline = time.monotonic() + 20
        while True:
            try:
                if holds():
                    return
            except redis.RedisError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited for {what}")
            time.sleep(0.1)
