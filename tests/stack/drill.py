"""What is done to the project, in the order in which it is done, each as a step with its time."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from digits import LONG, MODEL, Digits, finetune, first_epoch, wait_for_epoch, wait_for_success
from hardening import check_no_way_out, check_published, check_rights, has_default_route
from load import Load
from log import require, say, step
from project import Project, wait_until
from rpc import check_grpc

OURS = ("gateway", "worker-inference", "worker-training")
PROXY = "proxy"
SERVERS = ("broker", "transit", "database")


@dataclass
class Drill:
    project: Project
    folder: Path
    dataset: str = field(default="", init=False)

    def start(self) -> None:
        """From nothing to a served model of one's own."""
        project = self.project
        with step("docker/init.sh writes .env and secrets/, once"):
            project.run("sh", "docker/init.sh")
            key = (project.folder / "secrets/admin_key").read_text()
            said = project.run("sh", "docker/init.sh").stdout
            require("wrote" not in said and (project.folder / "secrets/admin_key").read_text() == key, said)
        with step("docker compose up --wait"):
            project.up()
            wait_until(project.ready, "/readyz")
        with step("digits, as files"):
            self.digits = Digits.write(self.folder)
        with step("a dataset is uploaded, checked and ready"):
            self.dataset = self.digits.upload(project)
        with step("a fine-tune, promoted"):
            job = finetune(project, self.dataset, promote="always", recipe={"epochs": 8})
            wait_for_success(project, job, attempts=1)
        with step("the model is served on the published port"):
            self.digits.check(project)

    def upgrade(self) -> None:
        """To images of another commit, while clients send."""
        with step("upgraded under load: up --wait"), Load(self.project, self.digits, MODEL) as load:
            self.project.up()
            wait_until(self.project.ready, "/readyz")
            load.go_on(20)
        say(f"      {load.describe()}")
        load.check()
        require(load.longest_gap_s < 60, f"nothing was answered for {load.longest_gap_s:.0f} s")
        with step("what the previous images made is served by these"):
            self.digits.check(self.project)

    def roll(self) -> None:
        """To new containers of the same images, one after another, while clients send."""
        project = self.project
        for service in ("gateway", "worker-inference"):
            project.up("--no-recreate", "--scale", f"{service}=2", service)
        wait_until(lambda: project.workers("inference") == 2, "two inference workers")
        before = {found["Id"] for name in OURS for found in project.containers(name)}
        with (
            step("two gateways and two workers replaced under load: docker/roll.sh; no request is lost"),
            Load(project, self.digits, MODEL) as load,
        ):
            load.go_on(20)
            project.run("sh", "docker/roll.sh")
            load.go_on(20)
        say(f"      {load.describe()}")
        load.check()
        require(set(load.outcomes) == {"same"}, f"clients were told {load.outcomes}")
        after = [found["Id"] for name in ("gateway", "worker-inference") for found in project.containers(name)]
        require(len(after) == 4 and not before.intersection(after), "not each of them was replaced")
        with step("and one of each again"):
            project.up("--no-recreate", "--scale", "worker-inference=1", "--scale", "gateway=1")
            wait_until(lambda: project.workers("inference") == 1, "one inference worker")

    def go_through(self) -> None:
        self.roll()
        self.look()
        self.lose_workers()
        self.lose_servers()
        self.scale()
        self.lose_everything()

    def look(self) -> None:
        """Rights, networks, keys."""
        project = self.project
        with step("no key: 401; a wrong one: 401; /metrics with the metrics key alone"):
            require(self._status("/v1/models") == 401, "/v1/models opens without a key")
            require(self._status("/v1/models", "fov_000000000000." + "A" * 43) == 401, "any key opens")
            metrics = (project.folder / "secrets/metrics_key").read_text().strip()
            require(self._status("/metrics", metrics) == 200, "the metrics key does not open /metrics")
            require(
                self._status(f"/v1/models/{MODEL}", metrics) == 403, "the metrics key opens more than /metrics"
            )
        with step("gRPC through the proxy: with the key as by HTTP, and not without one"):
            check_grpc(project, self.digits.unseen[0])
        with step("every container: not root, read-only, no capabilities, limits, no secret in its environment"):
            for service in (*OURS, *SERVERS, PROXY):
                check_rights(project, service)
        with step("nothing is published but the proxy, on loopback"):
            check_published(project)
        with step("no way out for workers, queues and database"):
            for service in ("worker-inference", "worker-training"):
                check_no_way_out(project, service)
            for service in (*SERVERS, "gateway"):
                require(not has_default_route(project, service), f"{service} has a default route")
            require(has_default_route(project, PROXY), "not even the proxy has one: this check proves nothing")
        with step("weights that are not there: refused with what to do, and not fetched in secret"):
            self._refuses_to_fetch()

    def lose_workers(self) -> None:
        project = self.project
        with step("a worker dies in the midst of a fine-tune; the job goes on where its checkpoint is"):
            job = finetune(project, self.dataset, recipe=LONG)
            wait_for_epoch(project, job, 5)
            project.kill_inside("worker-training")
            wait_for_success(project, job, attempts=2)
            require(project.containers("worker-training")[0]["RestartCount"], "it was not killed")
            require(first_epoch(project, job, 2) > 1, "the second attempt began anew")
        with step("the inference worker dies; it is served again"):
            project.kill_inside("worker-inference")
            took = wait_until(
                lambda: project.workers("inference") == 1 and self._classifies(), "an inference worker"
            )
        say(f"      {took:.1f} s until it answered again")
        with step("the inference worker is frozen: unhealthy, and healthy again"):
            name = project.containers("worker-inference")[0]["Name"].lstrip("/")
            probe = ("docker", "exec", name, "python", "-m", "workers.health")
            require(project.run(*probe, check=False).returncode == 0, "a living worker is told to be unhealthy")
            project.exec("worker-inference", "sh", "-c", "kill -STOP $(cat /proc/1/task/1/children)")
            wait_until(lambda: project.run(*probe, check=False).returncode == 1, "the probe to notice", 20)
            project.exec("worker-inference", "sh", "-c", "kill -CONT $(cat /proc/1/task/1/children)")
            wait_until(lambda: project.run(*probe, check=False).returncode == 0, "the probe to pass again", 20)

    def lose_servers(self) -> None:
        project = self.project
        with step("both Redis servers and PostgreSQL restart under load, in the midst of a fine-tune"):
            job = finetune(project, self.dataset, recipe=LONG)
            wait_for_epoch(project, job, 3)
            with Load(project, self.digits, MODEL) as load:
                project.compose("restart", *SERVERS)
                wait_until(project.ready, "/readyz")
                load.go_on(20)
            ended = self._ended(job)
        say(f"      {load.describe()}; the fine-tune took {ended} attempts")
        load.check()

    def scale(self) -> None:
        project = self.project
        with step("three inference workers"):
            project.up("--no-recreate", "--scale", "worker-inference=3")
            wait_until(lambda: project.workers("inference") == 3, "three inference workers", 60)
            with ThreadPoolExecutor(12) as pool:
                named = list(pool.map(lambda _: self.digits.classify(project), range(6)))
            require(named.count(named[0]) == len(named), f"the workers do not agree: {named}")
        with step("and one again"):
            project.up("--no-recreate", "--scale", "worker-inference=1")
            wait_until(lambda: project.workers("inference") == 1, "one inference worker", 60)

    def lose_everything(self) -> None:
        project = self.project
        with step("docker compose kill in the midst of a fine-tune, and up: no job is lost"):
            job = finetune(project, self.dataset, recipe=LONG)
            wait_for_epoch(project, job, 5)
            project.compose("kill")
            project.up()
            wait_for_success(project, job, attempts=2)
            self.digits.check(project)
        with step("down, and up: everything is there again"):
            with project.client() as client:
                before = client.models.get(MODEL)
            project.compose("down")
            project.up()
            wait_until(project.ready, "/readyz")
            with project.client() as client:
                require(client.models.get(MODEL) == before, "the model is not what it was")
                require(client.datasets.get(self.dataset).state == "ready", "the dataset is lost")
            self.digits.check(project)

    def take_down(self) -> None:
        with step("down --volumes leaves nothing"):
            self.project.compose("down", "--volumes", "--timeout", "10")
            for kind in ("container", "volume", "network"):
                listed = ["docker", kind, "ls", "--quiet", "--filter", "label=com.docker.compose.project=fovea"]
                left = self.project.run(*listed, *(["--all"] if kind == "container" else [])).stdout
                require(not left, f"{kind}s are left: {left}")

    def _status(self, path: str, key: str | None = None) -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.get(self.project.url + path, headers=headers, trust_env=False, timeout=10).status_code

    def _classifies(self) -> bool:
        from fovea_client import ApiError, Unreachable

        try:
            return bool(self.digits.classify(self.project))
        except (ApiError, Unreachable):
            return False

    def _ended(self, job: str) -> int:
        """Attempts of a job that must succeed, in however many."""

        def over() -> bool:
            with self.project.client() as client:
                return client.jobs.get(job).is_over

        wait_until(over, f"the end of {job}", 180)
        with self.project.client() as client:
            found = client.jobs.get(job)
        require(found.state == "succeeded", f"job {job} ended as {found.state}: {found.error}")
        return found.attempt

    def _refuses_to_fetch(self) -> None:
        with self.project.client() as client:
            job = client.models.publish("imagenet", architecture="mobilenet_v2", weights="imagenet")
            wait_until(lambda: job.refresh().is_over, "the job to end", 60)
            ended = job.refresh()
        error = ended.error or {}
        require(ended.state == "failed" and error.get("code") == "weights_not_found", f"{ended}")
