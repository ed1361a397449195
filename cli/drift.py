"""`fovea models drift`: whether what a version is sent is still what it was validated on."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from fovea_client.records import ComparedQuantity, Drift

NAMES = {"top_probability": "top probability"}


def drift(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="NAME, NAME:VERSION or NAME@ALIAS; a name is what it serves.")
    ],
    window: Annotated[
        Literal["hour", "day", "all"],
        typer.Option(help="Since the last hour began, since this hour yesterday, or all that is kept."),
    ] = "day",
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Whether what a version answers differs from what it answered to its validation images."""
    from cli.connection import connect
    from cli.output import print_json
    from cli.reference import resolve

    with connect(url, key) as client:
        name, number = resolve(client, model)
        found = client.models.drift(name, number, window=window)
    print_json(found.to_dict()) if as_json else _print(found)


def _print(found: "Drift") -> None:
    from cli.output import local_time, print_table

    since = f", since {local_time(found.since, 'minutes')}" if found.since else ""
    print(f"{found.model}:{found.version}, {found.window}{since}: {_verdict(found)}\n{found.conclusion}")
    compared = [*found.quantities, *([found.embedding] if found.embedding else [])]
    if compared:
        print()
        columns = ("quantity", "distance", "adjusted p", "drifted")
        print_table(columns, [_row(each) for each in compared], right=("distance", "adjusted p"))


def _verdict(found: "Drift") -> str:
    return {"drift": "DRIFT", "none": "no drift"}.get(found.state, "nothing to say")


def _row(each: "ComparedQuantity") -> tuple[str, ...]:
    name = NAMES.get(each.name, each.name)
    return (
        f"{name} of {each.label}" if each.label else name,
        f"{each.distance:.3f}",
        f"{each.adjusted_p_value:.2g}",
        "yes" if each.drifted else "no",
    )
