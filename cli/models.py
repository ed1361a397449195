"""`fovea models`: what can be called, published, promoted and deleted in a running Fovea."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.drift import drift
from cli.filters import filters
from cli.options import AsJson, Key, Url, Yes, confirm
from cli.variants import variants

if TYPE_CHECKING:
    from fovea_client import Alias, Fovea, Model

app = typer.Typer(no_args_is_help=True, help="List, show, publish, promote, fetch and delete models.")
app.command()(drift)
app.command()(variants)
app.command()(filters)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
Version = Annotated[
    int | None, typer.Argument(metavar="[VERSION]", help="Its number; the one in production, else the latest.")
]


@app.command("list")
def list_models(
    tag: Annotated[str | None, typer.Option(help="Those that have this tag.")] = None,
    search: Annotated[str | None, typer.Option(help="A part of name or description.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Every model with its versions, aliases and tags."""
    from cli.connection import connect
    from cli.output import local_time, print_json, print_table

    with connect(url, key) as client:
        models = list(client.models.list(search=search, tag=tag))
    if as_json:
        print_json([model.to_dict() for model in models])
        return
    if not models and (tag or search):
        print("No such model.")
        return
    if not models:
        print("No model yet; publish one: fovea models publish NAME --architecture A --weights W")
        return
    columns = ["model", "latest", "aliases", "updated"]
    rows = [[m.name, str(m.latest or ""), _aliases(m), local_time(m.updated_at)] for m in models]
    if any(model.tags for model in models):
        columns.insert(3, "tags")
        for row, model in zip(rows, models, strict=True):
            row.insert(3, ", ".join(model.tags))
    print_table(columns, rows, optional=("updated", "tags"))


@app.command()
def show(name: Name, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """One model and each of its versions."""
    from cli.connection import connect
    from cli.output import local_time, percent, print_json, print_table, size

    with connect(url, key) as client:
        model, versions = client.models.get(name), list(client.models.versions(name))
    if as_json:
        print_json({**model.to_dict(), "items": [version.to_dict() for version in versions]})
        return
    print(f"{model.name}  {_aliases(model)}")
    if model.tags:
        print(f"tags: {', '.join(model.tags)}")
    if model.description:
        print(f"\n{model.description}")
    print()
    columns = ("version", "aliases", "architecture", "classes", "accuracy", "size", "created", "job")
    rows = []
    for version in versions:
        accuracy = version.metrics.get("accuracy")
        rows.append(
            (
                str(version.version),
                ", ".join(version.aliases),
                version.architecture,
                str(len(version.labels)),
                "" if accuracy is None else percent(accuracy),
                size(version.size_bytes),
                local_time(version.created_at),
                version.job_id or "",
            )
        )
    print_table(columns, rows, optional=("job", "classes", "size"), right=("classes", "accuracy", "size"))


@app.command(no_args_is_help=True)
def describe(
    name: Name,
    description: Annotated[
        str | None, typer.Option("--description", "-d", help="What people should know of it; '' removes it.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Its tags, instead of those it has; '' for none.")
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Write a description and tags to a model, or show them."""
    from cli.connection import connect
    from cli.output import print_json

    tags = None if tag is None else [given for given in tag if given]
    with connect(url, key) as client:
        model = client.models.describe(name, description=description, tags=tags)
    if as_json:
        print_json(model.to_dict())
        return
    print(f"{model.name}  {', '.join(model.tags) or 'no tags'}")
    print(model.description or "no description")


@app.command()
def publish(
    name: Name,
    architecture: Annotated[
        str | None,
        typer.Option("--architecture", "-a", help="As `fovea architectures list` has it; a checkpoint's, too."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights of that architecture; `imagenet` by default.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A model of your own instead: .onnx, .pth, .safetensors."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="The file's classes: a text file with a label a line, or `imagenet`.")
    ] = None,
    preprocessing: Annotated[
        str | None, typer.Option(help="`imagenet`, or a JSON object, or @FILE with one; see docs/upload.md.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="The ONNX output that classifies.")] = None,
    values: Annotated[
        Literal["logits", "probabilities"] | None, typer.Option(help="What that output gives.")
    ] = None,
    promote: Annotated[
        Literal["never", "always"], typer.Option(help="Whether `production` moves to it.")
    ] = "always",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch the job until it ends.")] = True,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a served version of a model from published weights, or from a file of your own."""
    from cli.connection import connect
    from cli.job_progress import watch_job
    from cli.model_file import facts_of
    from cli.output import print_json_line

    facts = facts_of(file, architecture, weights, labels, preprocessing, output, values)
    with connect(url, key) as client:
        if file is None:
            weights = weights or "imagenet"
            job = client.models.publish(name, architecture=str(architecture), weights=weights, promote=promote)
        else:
            job = client.models.upload(name, file, promote=promote, progress=not as_json, **facts)
        if wait:
            job = watch_job(job, f"publishing {name}", as_json=as_json)
    if not wait and as_json:
        print_json_line(job.to_dict())
    elif not wait:
        print(f"{job.id} is {job.state}; watch it: fovea jobs watch {job.id}")
    elif not as_json:
        version = (job.result or {}).get("version")
        print(f"{name} version {version} is served; try it: fovea classify FILE --model {name}:{version}")


@app.command()
def promote(
    name: Name,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The version's number.")],
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "production",
    url: Url = None,
    key: Key = None,
) -> None:
    """Point an alias (`production`) at a version; from the next request on it answers."""
    from cli.connection import connect

    with connect(url, key) as client:
        client.models.set_alias(name, alias, version)
    print(f"{name}@{alias} is version {version}")


@app.command()
def rollback(
    name: Name,
    alias: Annotated[str, typer.Option(help="The alias to move back.")] = "production",
    url: Url = None,
    key: Key = None,
) -> None:
    """Point an alias at the version that it was at before. Again goes back one more."""
    from cli.connection import connect

    with connect(url, key) as client:
        present = client.models.alias(name, alias).version
        restored = client.models.rollback(name, alias, present=present).aliases[alias]
    print(f"{name}@{alias} is version {restored} again (was {present})")


@app.command("alias")
def change_alias(
    name: Name,
    alias: Annotated[str | None, typer.Argument(metavar="[ALIAS]", help="All of them by default.")] = None,
    version: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="Point it at this one; else it is shown.")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; the version stays.")] = False,
    yes: Yes = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List a model's aliases, show one with its history, set it, or delete it."""
    from cli.connection import connect
    from cli.output import print_json, print_table

    if delete and (alias is None or version is not None):
        raise typer.BadParameter("it takes the name of an alias and no version", param_hint="--delete")
    with connect(url, key) as client:
        if alias is None:
            aliases = client.models.get(name).aliases
            if as_json:
                print_json(aliases)
            elif aliases:
                print_table(("alias", "version"), [(other, str(number)) for other, number in aliases.items()])
            else:
                print(f"{name} has no alias; set one: fovea models alias {name} production VERSION")
        elif delete:
            confirm(f"Delete {name}@{alias}?", yes)
            client.models.delete_alias(name, alias)
            print(f"{name}@{alias} is deleted")
        elif version is not None:
            client.models.set_alias(name, alias, version)
            print(f"{name}@{alias} is version {version}")
        else:
            found = client.models.alias(name, alias)
            print_json(found.to_dict()) if as_json else _print_alias(found)


@app.command()
def delete(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="This one alone; the whole model by default.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even if an alias points at it, and the alias too.")
    ] = False,
    yes: Yes = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Delete a version, or a model with all its versions and files. Refused while an alias points at it."""
    from cli.connection import connect

    with connect(url, key) as client:
        if version is None:
            count = client.models.get(name).versions
            confirm(f"Delete {name} with its {count} version{'' if count == 1 else 's'}?", yes)
            client.models.delete(name, force=force)
        else:
            confirm(f"Delete {name} version {version}?", yes)
            client.models.delete(name, version, force=force)
    print(f"{name} is deleted" if version is None else f"{name} version {version} is deleted")


@app.command()
def card(
    name: Name,
    version: Version = None,
    form: Annotated[
        Literal["md", "html"] | None, typer.Option("--format", help="By the ending of --output, else md.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; the terminal by default.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """How good a version is, on what it was measured, and where it comes from."""
    from cli.connection import connect
    from cli.output_file import output_file

    form = form or ("html" if output and output.suffix in (".html", ".htm") else "md")
    with connect(url, key) as client:
        text = client.models.card(name, version or _served_version(client, name), form=form)
    if output is None:
        print(text)
        return
    with output_file(output) as file:
        file.write(text.encode())
    print(output)


@app.command()
def download(
    name: Name,
    version: Version = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file or folder; NAME-VERSION.zip by default.")
    ] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Fetch a version as a zip: model.onnx, manifest, card, and the weights to learn on from."""
    from cli.connection import connect
    from cli.output_file import output_file
    from cli.transfer import Transfer

    with connect(url, key) as client:
        number = version or _served_version(client, name)
        total = client.models.version(name, number).size_bytes
        target = output or Path()
        target = target / f"{name}-{number}.zip" if target.is_dir() else target
        with output_file(target) as file, Transfer(f"fetching {name}:{number}", total) as shown:
            for piece in client.models.artifact(name, number):
                file.write(piece)
                shown.advance(len(piece))
    print(target)


def _served_version(client: "Fovea", name: str) -> int:
    """What answers to the bare name: `production`, else the latest version."""
    from cli.errors import CliError

    model = client.models.get(name)
    number = model.aliases.get("production") or model.latest
    if number is None:
        raise CliError(f"{name} has no version yet")
    return number


def _print_alias(alias: "Alias") -> None:
    from cli.output import local_time, print_table

    back = f"a rollback goes to {alias.previous}" if alias.previous else "there is nothing to roll back to"
    print(f"{alias.model}@{alias.alias} is version {alias.version}; {back}\n")
    rows = [
        (
            str(move.version),
            local_time(move.at, "seconds") or "before its history",
            local_time(move.rolled_back_at, "seconds"),
        )
        for move in alias.history
    ]
    print_table(("version", "set", "rolled back"), rows)


def _aliases(model: "Model") -> str:
    return ", ".join(f"{alias}: {number}" for alias, number in sorted(model.aliases.items()))
