"""`fovea jobs`: the durable work of a running Fovea."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from fovea_client import Job

app = typer.Typer(no_args_is_help=True, help="List, show, watch and cancel jobs.")

_MOMENTS = ("created_at", "started_at", "finished_at")
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@app.command("list")
def list_jobs(
    state: Annotated[
        Literal["queued", "running", "succeeded", "failed", "cancelled"] | None,
        typer.Option(help="Those in this state; all by default."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="finetune, evaluate, classify_many, ingest ...")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """The newest jobs."""
    from itertools import islice

    from cli.connection import connect
    from cli.output import local_time, print_json, print_table
    from fovea_client.words import describe

    with connect(url, key) as client:
        jobs = list(islice(client.jobs.list(state=state, kind=kind), limit))
    if as_json:
        print_json([job.to_dict() for job in jobs])
        return
    rows = [(j.id, j.kind, _model(j), describe(j, brief=True), local_time(j.created_at)) for j in jobs]
    print_table(("job", "kind", "model", "state", "created"), rows)


@app.command()
def show(job: JobId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """One job: what was asked, how far it is, what came of it. All of it with --json."""
    from cli.connection import connect
    from cli.output import local_time, print_json, print_table
    from fovea_client.words import describe

    with connect(url, key) as client:
        found = client.jobs.get(job)
    if as_json:
        print_json(found.to_dict())
        return
    error = found.error
    rows = [
        ("job", found.id),
        ("kind", found.kind),
        ("state", describe(found)),
        ("asked to end", _fate(found) if found.cancel_requested and found.state == "running" else ""),
        ("error", f"{error.get('detail')} ({error.get('code')})" if error else ""),
        ("attempt", str(found.attempt or "")),
        *_flat("request", found.request),
        *_flat("result", found.result or {}),
        *((name, local_time(getattr(found, name), "seconds")) for name in _MOMENTS),
    ]
    print_table(("", ""), [row for row in rows if row[1]])


@app.command()
def watch(job: JobId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Follow a job until it ends. Exit code 1 unless it succeeded."""
    from cli.connection import connect
    from cli.job_progress import watch_job

    with connect(url, key) as client:
        done = watch_job(client.jobs.get(job), job, as_json=as_json)
    if not as_json:
        print(f"{done.id} {done.state}")


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
    from cli.connection import connect
    from cli.output import print_json_line

    if keep_best and discard:
        raise typer.BadParameter("it excludes --discard", param_hint="--keep-best")
    with connect(url, key) as client:
        before = client.jobs.get(job)
        found = before.cancel("keep_best" if keep_best else "discard" if discard else None)
    if as_json:
        print_json_line(found.to_dict())
    else:
        print(_what_becomes_of(found, was_over=before.is_over))


def _what_becomes_of(job: "Job", *, was_over: bool) -> str:
    """What a cancellation does to a job, whose answer to it this is, in a sentence."""
    if was_over:
        return f"{job.id} has ended already: {job.state}"
    if job.state == "cancelled":
        return f"{job.id} is cancelled; it was waiting for a worker"
    if job.state != "running":
        return f"{job.id} has ended meanwhile: {job.state}"
    return f"{job.id} ends at its next step; {_fate(job)}"


def _fate(job: "Job") -> str:
    if job.on_cancel == "keep_best" and job.kind == "finetune":
        return "a version is made of the best that it has learned so far"
    return "what it has done so far is thrown away"


def _flat(prefix: str, values: Mapping[str, Any], depth: int = 2) -> Iterator[tuple[str, str]]:
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


def _model(job: "Job") -> str:
    return str(job.request.get("model") or "")
