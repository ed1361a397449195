"""`fovea jobs`: the durable work of a running Fovea."""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from cli.client import ApiClient, Json

app = typer.Typer(no_args_is_help=True, help="List, show, watch and cancel jobs.")

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = None,
    kind: Annotated[str | None, typer.Option(help="finetune, publish, ingest or classify.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """The newest jobs."""
    from itertools import islice

    from cli.client import ApiClient
    from cli.output import moment, print_json, print_table
    from cli.progress import describe

    with ApiClient(url, key) as client:
        jobs = list(islice(client.list_jobs(state=state, kind=kind), limit))
    if as_json:
        print_json(jobs)
        return
    rows = ((j["id"], j["kind"], _subject(j), describe(j), moment(j.get("created_at"))) for j in jobs)
    print_table(("job", "kind", "model", "state", "created"), rows)


@app.command()
def show(job: JobId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """One job: what was asked, how far it is, what came of it. All of it with --json."""
    from cli.client import ApiClient
    from cli.output import moment, print_json, print_table
    from cli.progress import describe

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
        ("error", f"{error.get('detail')} ({error.get('code')})" if error else ""),
        ("attempt", str(found.get("attempt") or "")),
        *_flat("request", found.get("request") or {}),
        *_flat("result", found.get("result") or {}),
        *((name, moment(found.get(name))) for name in ("created_at", "started_at", "finished_at")),
    ]
    print_table(("", ""), (row for row in rows if row[1]))


@app.command()
def watch(job: JobId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Follow a job until it ends. Exit code 1 unless it succeeded."""
    from cli.client import ApiClient

    with ApiClient(url, key) as client:
        done = watch_job(client, job, job, as_json=as_json)
    if not as_json:
        print(f"{done['id']} {done['state']}")


@app.command()
def cancel(
    job: JobId,
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="Make a version of the best that it has learned so far.")
    ] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Ask a job to end; what it has learned is discarded, unless --keep-best."""
    from cli.client import ApiClient
    from cli.output import print_json_line

    with ApiClient(url, key) as client:
        found = client.cancel_job(job, "keep_best" if keep_best else "discard")
    if as_json:
        print_json_line(found)
    else:
        asked = " (asked to end; it does so at the next step)" if found["state"] == "running" else ""
        print(f"{found['id']} {found['state']}{asked}")


def watch_job(client: "ApiClient", job: str, title: str, *, as_json: bool = False) -> "Json":
    """Show a job until it ends: a JSON line at each change, else progress on stderr.

    Raises JobFailed, and Detached at Ctrl-C, which leaves the job alone.
    """
    from cli.output import print_json_line
    from cli.progress import require_success

    return require_success(see_job(client, job, title, print_json_line if as_json else None))


def see_job(client: "ApiClient", job: str, title: str, show: "Callable[[Json], object] | None" = None) -> "Json":
    """The same, whatever the job's end; `show` is called at each change in place of the progress."""
    from rich.console import Console

    from cli.errors import Detached
    from cli.progress import JobProgress

    found: Json = {}
    try:
        with JobProgress(title, Console(stderr=True), lambda line: print(line, file=sys.stderr)) as progress:
            for found in client.follow_job(job):
                (show or progress.show)(found)
    except KeyboardInterrupt:
        ways = f"watch it: fovea jobs watch {job}; end it: fovea jobs cancel {job}"
        raise Detached(f"no longer watching; the job goes on. {ways[0].upper()}{ways[1:]}") from None
    return found


def _flat(prefix: str, values: "Json", depth: int = 3) -> Iterator[tuple[str, str]]:
    """Names and values of what fits into a line each; lists are left out."""
    for name, value in values.items():
        if isinstance(value, dict) and depth > 1:
            yield from _flat(f"{prefix}.{name}", value, depth - 1)
        elif isinstance(value, float):
            yield f"{prefix}.{name}", f"{value:.4g}"
        elif not isinstance(value, (dict, list)):
            yield f"{prefix}.{name}", str(value)


def _subject(job: "Json") -> str:
    return str((job.get("request") or {}).get("model") or "")
