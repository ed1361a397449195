"""`fovea audit`: who did what to which model, dataset, key and job, by a running Fovea's audit log."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from fovea_client import AuditEntry


def audit(
    actor: Annotated[
        str | None, typer.Option(help="A key's prefix or name, a user, or loopback, cli, worker.")
    ] = None,
    action: Annotated[str | None, typer.Option(help="Such as alias.set, or alias for all of them.")] = None,
    subject: Annotated[str | None, typer.Option(help="A model's name; a dataset's, job's or key's id.")] = None,
    since: Annotated[datetime | None, typer.Option(help="A day or a time of this machine's zone.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Who did what, the newest first. Needs a key with the scope admin where keys are needed."""
    from itertools import islice

    from cli.connection import connect
    from cli.output import local_time, print_json, print_table

    with connect(url, key) as client:
        found = client.audit(actor=actor, action=action, subject=subject, since=since)
        entries = list(islice(found, limit))
    if as_json:
        print_json([entry.to_dict() for entry in entries])
        return
    rows = [(local_time(e.at, "seconds"), _who(e), e.action, e.subject, _what(e), e.client or "") for e in entries]
    print_table(("at", "who", "action", "on", "what", "from"), rows, optional=("from", "what"))


def _who(entry: "AuditEntry") -> str:
    name = entry.actor_name or entry.job_id
    return f"{entry.actor} ({name})" if name else entry.actor


def _what(entry: "AuditEntry") -> str:
    """The details on one line."""
    return ", ".join(f"{name} {_plain(value)}" for name, value in entry.detail.items() if value is not None)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={part}" for name, part in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
