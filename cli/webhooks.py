"""`fovea webhooks`: who is told when jobs end. Needs a key with the scope admin where keys are needed."""

from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AsJson, Key, Url, Yes, confirm

if TYPE_CHECKING:
    from fovea_client import Webhook
    from fovea_client.webhooks import JobEnd

app = typer.Typer(no_args_is_help=True, help="Have addresses told when jobs end; see what they were told.")

Id = Annotated[str, typer.Argument(metavar="ID", help="As `fovea webhooks list` has it.")]


class End(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


EVENTS: dict[End, "JobEnd"] = {
    End.SUCCEEDED: "job.succeeded",
    End.FAILED: "job.failed",
    End.CANCELLED: "job.cancelled",
}


@app.command()
def create(
    address: Annotated[str, typer.Argument(metavar="URL", help="Where messages are sent: https://...")],
    event: Annotated[
        list[End] | None, typer.Option(help="How they end; several times for several, else all.")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Kinds of jobs, such as finetune; else all.")] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Have an address told when jobs end. The secret that signs its messages is shown now and never again."""
    from cli.connection import connect
    from cli.output import print_json

    with connect(url, key) as client:
        # Left out, for the server, is all.
        events = [EVENTS[given] for given in event or ()] or None
        made = client.webhooks.create(address, events=events, kinds=kind or None, description=description)
    if as_json:
        print_json(made.to_dict())
        return
    print(f"{made.id} is told of {_heard(made)}; try it: fovea webhooks test {made.id}")
    print(f"secret: {made.secret}")


@app.command("list")
def list_webhooks(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Every webhook, without its secret."""
    from cli.connection import connect
    from cli.output import print_json, print_table

    with connect(url, key) as client:
        webhooks = list(client.webhooks.list())
    if as_json:
        print_json([webhook.to_dict() for webhook in webhooks])
        return
    if not webhooks:
        print("No webhook yet; make one: fovea webhooks create URL")
        return
    rows = [(w.id, w.url, _heard(w), _state(w), str(w.pending)) for w in webhooks]
    print_table(("id", "url", "told of", "state", "pending"), rows, right=("pending",))


@app.command("test")
def send_test(webhook: Id, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Send a message now and say what comes of it; ends with 1 where it is not taken."""
    from cli.connection import connect
    from cli.output import print_json

    with connect(url, key) as client:
        found = client.webhooks.test(webhook)
    if as_json:
        print_json(found.to_dict())
    elif found.delivered:
        print(f"taken: it answered {found.status} after {found.seconds:.2f} s")
    else:
        print(f"not taken: {found.detail}")
    if not found.delivered:
        raise typer.Exit(1)


@app.command()
def deliveries(
    webhook: Id,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """What a webhook was told, and what came of it."""
    from cli.connection import connect
    from cli.output import local_time, print_json, print_table

    with connect(url, key) as client:
        found = list(islice(client.webhooks.deliveries(webhook), limit))
    if as_json:
        print_json([delivery.to_dict() for delivery in found])
        return
    rows = [
        (
            local_time(d.created_at, "seconds"),
            d.event,
            d.job_id,
            d.state,
            str(d.attempts),
            d.error or str(d.status or ""),
            local_time(d.next_at, "seconds"),
        )
        for d in found
    ]
    columns = ("at", "event", "job", "state", "attempts", "answer", "next")
    print_table(columns, rows, optional=("next",), right=("attempts",))


@app.command()
def enable(webhook: Id, url: Url = None, key: Key = None) -> None:
    """Send to it again, and at once what has waited."""
    _set_enabled(webhook, True, url, key)


@app.command()
def disable(webhook: Id, url: Url = None, key: Key = None) -> None:
    """Send it nothing."""
    _set_enabled(webhook, False, url, key)


@app.command()
def delete(webhook: Id, yes: Yes = False, url: Url = None, key: Key = None) -> None:
    """Delete a webhook with what waits for it."""
    from cli.connection import connect

    with connect(url, key) as client:
        found = client.webhooks.get(webhook)
        confirm(f"Delete {webhook} ({found.url}), for which {found.pending} messages wait?", yes)
        client.webhooks.delete(webhook)
    print(f"{webhook} is gone")


def _set_enabled(webhook: str, enabled: bool, url: str | None, key: str | None) -> None:
    from cli.connection import connect

    with connect(url, key) as client:
        client.webhooks.change(webhook, enabled=enabled)
    print(f"{webhook} is {'enabled' if enabled else 'disabled'}")


def _heard(webhook: "Webhook") -> str:
    ends = ", ".join(event.removeprefix("job.") for event in webhook.events) or "every end"
    return f"{ends} of {', '.join(webhook.kinds) or 'any job'}"


def _state(webhook: "Webhook") -> str:
    if webhook.disabled_at is None:
        return "enabled"
    return f"disabled: {webhook.disabled_reason}" if webhook.disabled_reason else "disabled"
