"""The command `fovea`: assembles the commands, and turns every expected failure into one line and an exit code.

Start-up is kept quick: what a command needs is imported when it runs.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import architectures, datasets, jobs, keys, models, webhooks, weights
from cli.audit import audit
from cli.backup import backup, restore
from cli.classify import classify
from cli.commands import Commands
from cli.demo import demo
from cli.doctor import doctor
from cli.embed import embed
from cli.encoding import never_fail_to_print
from cli.evaluate import evaluate
from cli.finetune import finetune
from cli.init import init
from cli.migrate import migrate
from cli.options import Data
from cli.similar import similar

app = typer.Typer(
    name="fovea",
    cls=Commands,
    help="Classify images, and teach new classes from yours.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"fovea {version('fovea')}")
        raise typer.Exit


@app.callback()
def fovea(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Classify images, and teach new classes from yours."""


@app.command()
def up(
    data: Data = Path("data"),
    host: Annotated[str, typer.Option(envvar="FOVEA_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="FOVEA_PORT", min=0, max=65535, help="0 takes a free one.")] = 8000,
    grpc_port: Annotated[
        int,
        typer.Option(envvar="FOVEA_GRPC_PORT", min=0, max=65535, help="Open Inference Protocol by gRPC; 0: none."),
    ] = 8001,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"], typer.Option(envvar="FOVEA_DEVICE", help="What computes.")
    ] = "auto",
    redis_url: Annotated[
        str | None,
        typer.Option(
            envvar="FOVEA_REDIS_URL",
            show_envvar=True,
            help="Use this Redis instead of two private ones. A password belongs into the variable: every user of "
            "the machine sees a command's options.",
            show_default=False,
        ),
    ] = None,
    starter: Annotated[
        bool, typer.Option("--starter/--no-starter", help="Train the model `digits` if there is no model.")
    ] = True,
    log_format: Annotated[
        Literal["text", "json"], typer.Option(envvar="FOVEA_LOG_FORMAT", help="For people or for machines.")
    ] = "text",
) -> None:
    """Start everything on this machine: gateway, workers, Redis, database. Ctrl-C ends it."""
    from cli.up.launch import UpOptions
    from cli.up.run import run_up

    raise typer.Exit(run_up(UpOptions(data, host, port, device, redis_url, starter, log_format, grpc_port)))


app.command()(demo)
app.command(no_args_is_help=True)(classify)
app.command(no_args_is_help=True)(similar)
app.command(no_args_is_help=True)(embed)
app.command(no_args_is_help=True)(finetune)
app.command(no_args_is_help=True)(evaluate)
app.add_typer(datasets.app, name="datasets")
app.add_typer(models.app, name="models")
app.add_typer(jobs.app, name="jobs")
app.add_typer(architectures.app, name="architectures")
app.add_typer(weights.app, name="weights")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.command()(audit)
app.command()(doctor)
app.command()(init)
app.command()(migrate)
app.command(no_args_is_help=True)(backup)
app.command(no_args_is_help=True)(restore)


def main() -> None:
    """Run the command line."""
    never_fail_to_print()
    try:
        app()
    except Exception as exc:
        if not isinstance(exc, _expected()):
            raise
        from storage.secret_url import redacted

        print(f"fovea: {redacted(_text(exc))}", file=sys.stderr)
        sys.exit(getattr(exc, "exit_code", 1))


def _expected() -> tuple[type[Exception], ...]:
    """The errors whose text is meant for the user. Their modules are light; only a failure imports them.

    The Python client is not, but what it raised has imported it.
    """
    from cli.errors import CliError
    from models.errors import ModelError
    from storage.errors import StorageError

    client = sys.modules.get("fovea_client.errors")
    return (CliError, ModelError, StorageError, *((client.FoveaError,) if client else ()))


def _text(error: Exception) -> str:
    client = sys.modules.get("fovea_client.errors")
    if client and isinstance(error, client.Unauthorized):
        from cli.connection import in_options

        return in_options(error)
    return str(error)


if __name__ == "__main__":
    main()
