"""`fovea architectures`: what can be trained and served, from the catalogue on this machine."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import AsJson, Params, read_object

if TYPE_CHECKING:
    from models.layer_table import NetworkSummary

app = typer.Typer(no_args_is_help=True, help="List the zoo's architectures and show their layers.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `fovea architectures list` has it.")]


@app.command("list")
def list_all(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORDS]...", help="Keep those with all these words in name, family, year or paper."
        ),
    ] = None,
    source: Annotated[
        Literal["ours", "torchvision", "timm"] | None, typer.Option(help="Whose; all by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The whole zoo, oldest first, timm's last."""
    from cli.output import print_json, print_table
    from models.zoo.catalogue import list_architectures

    entries = [entry for entry in list_architectures(" ".join(words or ())) if source in (None, entry["source"])]
    if as_json:
        print_json(entries)
        return
    columns = ("architecture", "year", "family", "from", "input", "parameters", "multiply-adds", "weights")
    print_table(
        columns,
        [_row(entry) for entry in entries],
        optional=("weights", "from", "year", "input", "family", "multiply-adds"),
        right=("input", "parameters", "multiply-adds", "weights"),
    )
    print(f"\n{len(entries)} architectures; one of them with its layers: fovea architectures show NAME")


@app.command()
def show(
    name: Name,
    input_size: Annotated[
        int | None, typer.Option("--input", min=1, help="Height and width in pixels; its own by default.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=4096, help="Images at once.")] = 1,
    classes: Annotated[int, typer.Option(min=1, help="Number of classes.")] = 1000,
    channels: Annotated[int, typer.Option(min=1, max=64, help="3 for colour, 1 for grey.")] = 3,
    pattern: Annotated[str | None, typer.Option(help="The layers of `convnet`.")] = None,
    params: Params = None,
    form: Annotated[
        Literal["text", "markdown", "json"], typer.Option("--format", help="Of the table of layers.")
    ] = "text",
    as_json: AsJson = False,
) -> None:
    """One architecture: paper, weights, departures, and the table of its layers."""
    from cli.output import print_json, terminal_width
    from cli.wrapping import wrap_words
    from models.zoo.catalogue import describe

    entry = describe(name)
    values: dict[str, Any] = {} if params is None else read_object(params, "--params")
    if pattern is not None:
        values["pattern"] = pattern
    if input_size is not None and (parameter := entry["input"].get("parameter")):
        values[parameter] = input_size
    summary = _summary(entry, input_size, batch, classes, channels, values)
    if as_json or form == "json":
        print_json({**entry, "totals": summary.totals(), "layers": summary.to_dict()["layers"]})
        return
    width = terminal_width()
    for fact in _facts(entry):
        print("\n".join(wrap_words(fact, width)) if width else fact)
    table = summary.to_markdown() if form == "markdown" else summary.to_text()
    too_wide = width is not None and form == "text" and max(map(len, table.splitlines())) > width
    print(f"\n{_narrow(summary, width or 0) if too_wide else table}")


def _summary(
    entry: dict[str, Any],
    input_size: int | None,
    batch: int,
    classes: int,
    channels: int,
    params: dict[str, Any],
) -> "NetworkSummary":
    """The table that the catalogue keeps, if it is the one asked for; any other takes torch, and seconds."""
    from models.layer_table import NetworkSummary

    usual = input_size in (None, entry["input"]["size"]) and (batch, classes, channels) == (1, 1000, 3)
    if usual and not params and entry.get("layers"):
        return NetworkSummary.from_dict({**entry["totals"], "layers": entry["layers"]})
    from models.summary import summarize_architecture

    return summarize_architecture(entry["name"], input_size, batch, classes, channels, **params)


def _narrow(summary: "NetworkSummary", width: int) -> str:
    """The layers for a terminal too narrow for their table: below name, kind and output of each, all else."""
    from cli.wrapping import wrap_phrases, wrap_words
    from models.layer_table import COLUMNS, cells

    lines = []
    for name, kind, output, *others in map(cells, summary.layers):
        lines += wrap_phrases([name, kind, output], width, width)
        phrases = [f"{column} {value}" for column, value in zip(COLUMNS[3:], others, strict=True) if value]
        lines += [f"    {line}" for line in wrap_phrases(phrases, width - 4, width - 4)]
    lines.append("")
    for total in summary.totals_lines():
        lines += wrap_words(total, width)
    return "\n".join(lines)


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    totals = entry["totals"]
    return (
        entry["name"],
        str(entry["year"] or ""),
        entry["family"],
        entry["source"],
        str(entry["input"]["size"]),
        _millions(totals.get("parameters")),
        _millions(totals.get("multiply_adds")),
        str(len(entry["weights"]) or ""),
    )


def _millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:,.1f} M"


def _facts(entry: dict[str, Any]) -> list[str]:
    lines = [f"{entry['name']}  ({entry['family']}, from {entry['source']})"]
    if entry["paper"]:
        lines.append(f"{entry['paper']['title']} ({entry['paper']['year']}), {entry['paper']['url']}")
    lines += [f"departs from the paper: {departure}" for departure in entry.get("departures", ())]
    lines += [f"parameter {name}: {text}" for name, text in entry.get("parameters", {}).items()]
    weights = ", ".join(w["name"] + (" (default)" if w["default"] else "") for w in entry["weights"])
    return [*lines, f"weights: {weights or 'none are published'}"]
