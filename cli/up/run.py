"""One `fovea up`: from the locked data folder to the ready banner, and to the end of everything by a signal."""

import asyncio
import dataclasses
import json
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.connection import connect
from cli.errors import CliError
from cli.job_progress import JobProgress
from cli.up.address import claim_sockets, local_url, port_of, require_free_for_grpc
from cli.up.banner import Banner, curl_lines, summary
from cli.up.data_folder import DataFolder, claim_data_folder
from cli.up.journal import Journal
from cli.up.launch import (
    Brokers,
    UpOptions,
    child_environment,
    children,
    database_child,
    plan_brokers,
    samples_child,
)
from cli.up.readiness import parts_not_ready, read_readiness, working_children
from cli.up.redis_server import answers_ping, require_answer
from cli.up.starter import NAME, follow_starter, has_models, has_starter
from cli.up.supervisor import Supervisor
from fovea_client import ApiError, Fovea, FoveaError, JobFailed
from storage.revision import is_up_to_date
from system.loopback import is_loopback

_POLL_S = 0.05
# make and timeout(1) send a signal to the process and to its group: that is one wish, not two.
_ONE_SIGNAL_S = 1.0


def run_up(options: UpOptions) -> int:
    """Run until a signal ends it; returns the exit code. Raises CliError when it cannot start or go on."""
    journal = Journal(options.log_format)
    with claim_data_folder(options.data) as folder:
        sockets = claim_sockets(options.host, options.port)
        if options.grpc_port:
            require_free_for_grpc(options.host, options.grpc_port)
        port = port_of(sockets)
        folder.announce(local_url(options.host, port))
        return asyncio.run(Up(dataclasses.replace(options, port=port), folder, sockets, journal).run())


class Up:
    """One run: children are started, readiness is awaited, the starter model is trained, a signal is awaited."""

    def __init__(
        self, options: UpOptions, folder: DataFolder, sockets: Sequence[socket.socket], journal: Journal
    ) -> None:
        self._options = options
        self._folder = folder
        self._sockets = sockets
        self._journal = journal
        self._url = local_url(options.host, options.port)
        self._needs_key = not is_loopback(options.host)
        self._keys: dict[str, Any] = {}
        self._signalled_at: float | None = None
        self._forced = False

    async def run(self) -> int:
        self._supervisor = Supervisor(self._journal)
        self._stop = asyncio.Event()
        self._listen_for_signals()
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        failed = self._supervisor.failed
        endings: set[asyncio.Future[Any]] = {stopping, failed}
        try:
            await asyncio.wait({starting, *endings}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and not self._stop.is_set():
                starting.result()
            await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
            if failed.done() and not self._stop.is_set():
                failed.result()
        finally:
            self._stop.set()
            starting.cancel()
            # From here on nobody would answer those who wait in their queue.
            for listening in self._sockets:
                listening.close()
            await self._supervisor.stop()
            await asyncio.gather(starting, return_exceptions=True)
            failed.cancel()
        self._journal.say("everything has ended")
        return 130 if self._forced else 0

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        now = asyncio.get_running_loop().time()
        if self._signalled_at is None:
            self._journal.say(f"{number.name}: ending everything; once more ends it by force")
            self._signalled_at = now
            self._stop.set()
        elif now - self._signalled_at > _ONE_SIGNAL_S:
            self._journal.say(f"{number.name}: killing everything")
            self._forced = True
            self._supervisor.kill_all()

    async def _start(self) -> None:
        self._journal.say(f"data in {self._folder.path}")
        brokers = plan_brokers(self._folder, self._options.redis_url)
        environment = child_environment(self._options, self._folder, brokers)
        for server in brokers.servers:
            self._supervisor.start(server)
        await asyncio.gather(self._redis_ready(brokers), self._prepare_database(environment))
        for child in children(environment, [listening.fileno() for listening in self._sockets]):
            self._supervisor.start(child)
        with connect(self._url, self._keys.get("session")) as client:
            await self._all_ready(client)
            await asyncio.to_thread(self._ensure_starter, client)
            sample = await self._ensure_sample(client, environment)
            banner = await asyncio.to_thread(self._banner, client, sample)
        self._journal.show(banner)

    async def _redis_ready(self, brokers: Brokers) -> None:
        if not brokers.servers:
            await asyncio.to_thread(require_answer, brokers.broker_url)
        for server, socket_path in zip(brokers.servers, brokers.sockets, strict=True):
            while not await answers_ping(socket_path):
                await asyncio.sleep(0.02)
            self._supervisor.mark_ready(server.name)

    async def _prepare_database(self, environment: Mapping[str, str]) -> None:
        if not self._needs_key and await asyncio.to_thread(is_up_to_date, self._folder.database):
            return
        child = database_child(environment, with_keys=self._needs_key)
        lines = await self._supervisor.run_once(child)
        if self._needs_key:
            self._keys = json.loads(lines[-1])

    async def _all_ready(self, client: Fovea) -> None:
        said: tuple[str, ...] = ()
        while True:
            answer = await asyncio.to_thread(read_readiness, client)
            for name in working_children(answer):
                self._supervisor.mark_ready(name)
            waiting = parts_not_ready(answer)
            if not waiting:
                return
            if waiting != said:
                self._journal.say(f"waiting for {', '.join(waiting)}")
                said = waiting
            await asyncio.sleep(_POLL_S)

    def _ensure_starter(self, client: Fovea) -> None:
        if not self._options.starter or has_models(client):
            return
        self._journal.say("no model yet: training the starter model, LeNet-5 on scikit-learn's handwritten digits")
        title = f"training {NAME}"
        try:
            with JobProgress(title, self._journal.progress_console, self._journal.say) as progress:
                progress.follow(follow_starter(client, self._stop.is_set))
        except (JobFailed, ApiError) as exc:
            # Everything else works; the next start tries again.
            self._journal.say(f"no starter model: {exc}")

    async def _ensure_sample(self, client: Fovea, environment: Mapping[str, str]) -> Path | None:
        """A digit that the starter model has never seen, if that model is there; nothing depends on it."""
        if not await asyncio.to_thread(has_starter, client):
            return None
        if not (found := _samples(self._folder.samples)):
            try:
                await self._supervisor.run_once(samples_child(environment, self._folder))
            except CliError as exc:
                self._journal.say(f"no sample images: {exc}")
            found = _samples(self._folder.samples)
        return next((file for file in found if "digit-7" in file.name), found[0]) if found else None

    def _banner(self, client: Fovea, sample: Path | None) -> str:
        try:
            answer = summary(client.classify(sample, model=NAME, top_k=3)) if sample else ""
        except (FoveaError, OSError) as exc:
            answer = f"not now: {exc}"
        lines = curl_lines(self._url, sample, needs_key=self._needs_key)
        port = self._options.grpc_port
        grpc = local_url(self._options.host, port).removeprefix("http://") if port else ""
        return Banner(self._url, self._folder.path, lines, answer, self._keys.get("first"), grpc).render()


def _samples(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob("*.png"))
