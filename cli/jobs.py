"""`fovea jobs`: the durable work of a running Fovea."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from cli.client import Json

app = typer.Typer(no_args_is_help=True, help="List, show, watch and cancel jobs.")

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@app.command("list")
def list_jobs(
    state: Annotated[
        Literal["queued", "running", "succeeded", "failed", "cancelled"] | None,
        typer.Option(help="Those in this state; all by default."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="finetune, publish, variants, ingest or classify.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """The newest jobs."""
    from itertools import islice

    from cli.client import ApiClient
    from cli.job_progress import describe
    from cli.output import local_time, print_json, print_table

    with ApiClient(url, key) as client:
        jobs = list(islice(client.list_jobs(state=state, kind=kind), limit))
    if as_json:
        print_json(jobs)
        return
    rows = [
        (j["id"], j["kind"], _model(j), describe(j, brief=True), local_time(j.get("created_at"))) for j in jobs
    ]
    print_table(("job", "kind", "model", "state", "created"), rows)


@app.command()
def show(job: JobId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """One job: what was asked, how far it is, what came of it. All of it with --json."""
    from cli.client import ApiClient
    from cli.job_progress import describe
    from cli.output import local_time, print_json, print_table

    with ApiClient(url, key) as client:
        found = client.get_job(job)
    if as_json:
        print_json(found)
        return
    error = found.get("error") or {}
    rows = [
        ("job", found["id"]),
        ("kind", found["kind"]),
        ("state", describe(found)),
        ("asked to end", _fate(found) if found.get("cancel_requested") and found["state"] == "running" else ""),
        ("error", f"{error.get('detail')} ({error.get('code')})" if error else ""),
        ("attempt", str(found.get("attempt") or "")),
        *_flat("request", found.get("request") or {}),
        *_flat("result", found.get("result") or {}),
        *((name, local_time(found.get(name), "seconds")) for name in ("created_at", "started_at", "finished_at")),
    ]
    print_table(("", ""), [row for row in rows if row[1]])


@app.command()
def watch(job: JobId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Follow a job until it ends. Exit code 1 unless it succeeded."""
    from cli.client import ApiClient
    from cli.job_progress import watch_job

    with ApiClient(url, key) as client:
        done = watch_job(client, job, job, as_json=as_json)
    if not as_json:
        print(f"{done['id']} {done['state']}")


@app.command()
def cancel(
    job: JobId,
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="Make a version of the best that a fine-tune has learned so far.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Throw it away, even if it was to be kept until now.")
    ] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Ask a job to end. What it has learned is thrown away, unless it is or was asked with --keep-best."""
    from cli.client import ApiClient, is_over
    from cli.output import print_json_line

    if keep_best and discard:
        raise typer.BadParameter("it excludes --discard", param_hint="--keep-best")
    with ApiClient(url, key) as client:
        was_over = is_over(client.get_job(job))
        found = client.cancel_job(job, "keep_best" if keep_best else "discard" if discard else None)
    if as_json:
        print_json_line(found)
    else:
        print(_what_becomes_of(found, was_over=was_over))


def _what_becomes_of(job: "Json", *, was_over: bool) -> str:
    """What a cancellation does to a job, whose answer to it this is, in a sentence."""
    if was_over:
        return f"{job['id']} has ended already: {job['state']}"
    if job["state"] == "cancelled":
        return f"{job['id']} is cancelled; it was waiting for a worker"
    if job["state"] != "running":
        return f"{job['id']} has ended meanwhile: {job['state']}"
    return f"{job['id']} ends at its next step; {_fate(job)}"


def _fate(job: "Json") -> str:
    if job.get("on_cancel") == "keep_best" and job["kind"] == "finetune":
        return "a version is made of the best that it has learned so far"
    return "what it has done so far is thrown away"


def _flat(prefix: str, values: "Json", depth: int = 2) -> Iterator[tuple[str, str]]:
    """Names and values of what fits into a line each; what is null, lists, and what lies deeper are left out."""
    for name, value in values.items():
        if isinstance(value, dict) and depth > 1:
            yield from _flat(f"{prefix}.{name}", value, depth - 1)
        elif isinstance(value, bool):
            yield f"{prefix}.{name}", "yes" if value else "no"
        elif isinstance(value, float):
            yield f"{prefix}.{name}", f"{value:.4g}"
        elif isinstance(value, (int, str)):
            yield f"{prefix}.{name}", str(value)


def _model(job: "Json") -> str:
    return str((job.get("request") or {}).get("model") or "")
