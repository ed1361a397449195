"""Clients of every kind, side by side, each in a thread of its own: they ask, note the answer, and go on."""

import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
from chaos.ledger import UNREACHABLE, Entry, Json, Ledger, now
from support.colours import LABELS, picture
from support.world import colours_archive

CLIENT_TIMEOUT_S = 12.0
# What is written waits for the store; an alias moves when its version was loaded, which may take 30 s.
WRITING_TIMEOUT_S = 40.0
QUICK_RECIPE = {"batch_size": 64, "patience": None, "augmentation": {"crop": "centre", "mirror": False}}
OVER = ("succeeded", "failed", "cancelled")


@dataclass
class Common:
    """What the clients know together: the images, and what is there to be used."""

    url: str
    ledger: Ledger
    versions: list[tuple[str, int]]
    publish: list[Json]
    images: dict[str, bytes] = field(init=False)
    datasets: list[str] = field(default_factory=list)
    open_jobs: dict[str, str] = field(default_factory=dict)
    last_seen: dict[str, str] = field(default_factory=dict)
    unanswered: dict[str, "Wish"] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.images = {
            f"{colour}-{noise}": picture(colour, noise=noise) for colour in LABELS for noise in range(1, 5)
        }


@dataclass(frozen=True)
class Wish:
    """A request that makes a job. Its key stays the same until somebody answers it."""

    action: str
    path: str
    what: Json
    options: Json
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


class Client(threading.Thread):
    """Acts again and again, with a pause of up to `pause_s`, until everything is over."""

    pause_s = 0.2

    def __init__(self, common: Common, seed: str) -> None:
        super().__init__(daemon=True, name=f"{type(self).__name__} {seed}")
        self.common = common
        self.chance = Random(seed)
        self.failure: BaseException | None = None
        # Every request has a connection of its own, as curl's have.
        self.http = httpx.Client(
            base_url=common.url, timeout=CLIENT_TIMEOUT_S, limits=httpx.Limits(max_keepalive_connections=0)
        )

    def run(self) -> None:
        try:
            while not self.common.over.is_set():
                self.act()
                self.common.over.wait(self.chance.uniform(0.2, 1.0) * self.pause_s)
        except BaseException as failure:  # noqa: BLE001  # told at the end; a client that is gone proves nothing
            self.failure = failure

    def act(self) -> None:
        raise NotImplementedError

    def ask(
        self, action: str, method: str, path: str, what: Json, key: str | None = None, **options: Any
    ) -> Entry:
        began = now()
        options.setdefault("timeout", CLIENT_TIMEOUT_S if action in ("classify", "look") else WRITING_TIMEOUT_S)
        headers = {**options.pop("headers", {}), **({"Idempotency-Key": key} if key else {})}
        try:
            answer = self.http.request(method, path, headers=headers, **options)
            status, body = answer.status_code, _json(answer)
            code = "" if status < 400 else str(body.get("code", f"no problem+json: {answer.text[:200]}"))
        except httpx.TransportError as error:
            status, code, body = 0, UNREACHABLE, {"detail": f"{type(error).__name__}: {error}"}
        return self.common.ledger.add(Entry(action, what, key, began, now(), status, code, body))

    def wish(self, wish: Wish) -> Entry:
        """Until somebody says yes or no, at the end of the run at the latest: so that no job is nobody's."""
        with self.common.lock:
            self.common.unanswered[wish.key] = wish
        while True:
            entry = self.grant(wish)
            if not (entry.is_unknown or entry.status == 429) or self.common.over.wait(0.5):
                return entry

    def grant(self, wish: Wish) -> Entry:
        entry = self.ask(wish.action, "POST", wish.path, wish.what, wish.key, **wish.options)
        if not (entry.is_unknown or entry.status in (429, 507)):
            with self.common.lock:
                self.common.unanswered.pop(wish.key, None)
                if entry.is_accepted:
                    job = entry.body.get("job", entry.body)
                    self.common.open_jobs[str(job["id"])] = str(job["kind"])
        return entry

    def version(self) -> tuple[str, int]:
        with self.common.lock:
            return self.chance.choice(self.common.versions)


class Classifier(Client):
    def act(self) -> None:
        model, number = self.version()
        name = self.chance.choice(list(self.common.images))
        self.classify(model, number, name)

    def classify(self, model: str, number: int, name: str) -> Entry:
        what = {"model": model, "version": number, "image": name}
        path = f"/v1/models/{model}:{number}/classify?top_k=10"
        return self.ask(
            "classify", "POST", path, what, content=self.common.images[name], headers={"Content-Type": "image/png"}
        )


class AsyncClassifier(Client):
    pause_s = 5.0

    def act(self) -> None:
        model, number = self.version()
        name = self.chance.choice(list(self.common.images))
        what = {"model": model, "version": number, "image": name}
        headers = {"Content-Type": "image/png", "Prefer": "respond-async"}
        options = {"content": self.common.images[name], "headers": headers}
        self.wish(Wish("classify_async", f"/v1/models/{model}:{number}/classify?top_k=10", what, options))


class Uploader(Client):
    """Every third archive is one that was sent before."""

    pause_s = 12.0
    sent = 0

    def act(self) -> None:
        seed = self.chance.randrange(self.sent + 1) if self.chance.random() < 1 / 3 else self.sent
        self.sent = max(self.sent, seed + 1)
        name = f"colours-{uuid.uuid4().hex[:8]}"
        options = {
            "content": colours_archive(per_class=6, seed=seed),
            "params": {"name": name},
        }
        self.wish(Wish("ingest", "/v1/datasets", {"name": name, "seed": seed}, options))


class Teacher(Client):
    """At most two trainings wait, so that what is asked for in the run is done in the run."""

    pause_s = 2.0

    def act(self) -> None:
        with self.common.lock:
            waiting = sum(kind in ("finetune", "publish") for kind in self.common.open_jobs.values())
            datasets = ["builtin:digits", *self.common.datasets]
        if waiting >= 2:
            return
        promote = self.chance.choice(["never", "if_better", "always"])
        if self.chance.random() < 0.25:
            request = {**self.chance.choice(self.common.publish), "promote": promote}
            model = f"zoo-{request['architecture'].replace('_', '-')}"
            self.wish(
                Wish("publish", f"/v1/models/{model}/versions", {"model": model, **request}, {"json": request})
            )
            return
        finetune = {
            "model": self.chance.choice(["lenet-a", "lenet-b"]),
            "dataset": self.chance.choice(datasets),
            "architecture": "lenet5",
            "weights": "none",
            "strategy": "full",
            "recipe": {**QUICK_RECIPE, "epochs": self.chance.choice([1, 1, 4])},
            "seed": self.chance.randrange(2**31),
            "promote": promote,
            "variants": self.chance.choice(["none", "none", "auto"]),
        }
        self.wish(Wish("finetune", "/v1/finetunes", finetune, {"json": finetune}))


class Operator(Client):
    """Moves aliases back and forth, cancels, deletes.

    An alias whose last move was not answered is left alone from then on: it did or did not happen, once.
    """

    pause_s = 1.5
    alias = 0
    at = 0

    def act(self) -> None:
        deed = self.chance.choices(
            [self.promote, self.roll_back, self.cancel, self.delete_version, self.delete_dataset],
            weights=[6, 4, 0.5, 1, 1],
        )[0]
        deed()

    def promote(self) -> None:
        number = self.chance.choice([1, 2, 3])
        what = {"alias": f"stage-{self.alias}", "version": number}
        path = f"/v1/models/colours/aliases/{what['alias']}"
        self.moved(self.ask("promote", "PUT", path, what, json={"version": number}), number)

    def roll_back(self) -> None:
        if not self.at:
            return
        what = {"alias": f"stage-{self.alias}", "from": self.at}
        path = f"/v1/models/colours/aliases/{what['alias']}/rollback"
        entry = self.ask("rollback", "POST", path, what, json={"from": self.at})
        self.moved(entry, int(entry.body.get("aliases", {}).get(what["alias"], 0)))

    def moved(self, entry: Entry, number: int) -> None:
        if entry.is_accepted:
            self.at = number
        elif entry.is_unknown:
            self.alias, self.at = self.alias + 1, 0

    def cancel(self) -> None:
        with self.common.lock:
            jobs = sorted(self.common.open_jobs)
        if jobs:
            job = self.chance.choice(jobs)
            on_cancel = self.chance.choice(["keep_best", "discard"])
            self.ask("cancel", "POST", f"/v1/jobs/{job}/cancel", {"job": job}, json={"on_cancel": on_cancel})

    def delete_version(self) -> None:
        """Not those of `colours`, which the aliases move between. Nobody is to ask for it from now on."""
        with self.common.lock:
            trained = [version for version in self.common.versions if version[0] != "colours"]
            if len(trained) < 3:
                return
            model, number = self.chance.choice(trained)
            self.common.versions.remove((model, number))
        path = f"/v1/models/{model}/versions/{number}"
        self.ask("delete_version", "DELETE", path, {"model": model, "version": number})

    def delete_dataset(self) -> None:
        with self.common.lock:
            if len(self.common.datasets) < 2:
                return
            dataset = self.chance.choice(self.common.datasets)
            self.common.datasets.remove(dataset)
        self.ask("delete_dataset", "DELETE", f"/v1/datasets/{dataset}", {"dataset": dataset})


class Watcher(Client):
    """Follows the jobs that were accepted; what they made is there for the others."""

    pause_s = 0.5

    def act(self) -> None:
        for job in list(self.common.open_jobs):
            if self.common.over.is_set():
                return
            self.look_at(job)

    def look_at(self, job: str) -> None:
        entry = self.ask("look", "GET", f"/v1/jobs/{job}", {"job": job})
        if entry.is_accepted:
            self.common.last_seen[job] = (
                f"{entry.body['state']}, {entry.body['attempt']}, {entry.body['progress']}"
            )
        if entry.is_accepted and entry.body["state"] in OVER:
            self.common.ledger.note_ended(entry.body)
            with self.common.lock:
                del self.common.open_jobs[job]
                self.use(entry.body)

    def use(self, job: Mapping[str, Any]) -> None:
        result = job["result"] or {}
        if job["kind"] in ("finetune", "publish") and result:
            self.common.versions.append((result["model"], result["version"]))
            if left := result.get("variants_job"):
                self.common.open_jobs[left] = "variants"
        if (
            job["kind"] == "ingest"
            and job["state"] == "succeeded"
            and result["dataset"] not in self.common.datasets
        ):
            self.common.datasets.append(result["dataset"])


@dataclass
class Load:
    """Use as a context; it ends with `drain`."""

    common: Common
    seed: str
    clients: list[Client] = field(init=False)

    def __post_init__(self) -> None:
        kinds = [Classifier, Classifier, AsyncClassifier, Uploader, Teacher, Operator, Watcher]
        self.clients = [kind(self.common, f"{self.seed}-{place}") for place, kind in enumerate(kinds)]

    def start(self) -> None:
        for client in self.clients:
            client.start()

    def stop(self) -> None:
        """Nothing new is asked for. Raises what a client could not live with."""
        self.common.over.set()
        for client in self.clients:
            client.join()
            if client.failure is not None:
                raise RuntimeError(f"{client.name} ended") from client.failure

    def close(self) -> None:
        self.common.over.set()
        for client in self.clients:
            with suppress(RuntimeError):
                client.join()
            client.http.close()

    def settle(self) -> bool:
        """One round after the faults: what was never answered is asked again, and open jobs are looked at.

        Whether nothing is open any more.
        """
        watcher = next(client for client in self.clients if isinstance(client, Watcher))
        for wish in list(self.common.unanswered.values()):
            watcher.grant(wish)
        for job in list(self.common.open_jobs):
            watcher.look_at(job)
        return not self.common.unanswered and not self.common.open_jobs

    def open_work(self) -> str:
        """What is still to be done, in words that change whenever something happens to it."""
        found = [f"{job}: {self.common.last_seen.get(job)}" for job in sorted(self.common.open_jobs)]
        return "; ".join([*found, *sorted(self.common.unanswered)])

    def ask_everything(self) -> None:
        """Every version that is known, once for each image of a few: in the calm, all must answer."""
        classifier = next(client for client in self.clients if isinstance(client, Classifier))
        for model, number in self.common.versions:
            for name in list(self.common.images)[::4]:
                classifier.classify(model, number, name)


def _json(answer: httpx.Response) -> Json:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
