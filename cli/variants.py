"""`fovea models variants`: faster forms of a version, shown or tried."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from fovea_client import Fovea, Variants


def variants(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="NAME, NAME:VERSION or NAME@ALIAS; a name is what it serves.")
    ],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", "-d", help="Try variants on this dataset's images: an id, or builtin:digits."),
    ] = None,
    precision: Annotated[
        Literal["int8", "fp16"] | None,
        typer.Option("--precision", "-p", help="Try this one; by default each that can help."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch the job until it ends.")] = True,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """The variants of a version and how they did beside float32; with --dataset, try them first."""
    from cli.connection import connect
    from cli.job_progress import watch_job
    from cli.output import print_json, print_json_line

    if dataset is None and precision:
        raise typer.BadParameter("it takes --dataset as well, whose images are to judge", param_hint="--precision")
    with connect(url, key) as client:
        name, number = resolve(client, model)
        if dataset is not None:
            precisions: list[str] | Literal["auto"] = [precision] if precision else "auto"
            job = client.models.try_variants(name, number, dataset=dataset, precisions=precisions)
            if not wait and as_json:
                print_json_line(job.to_dict())
            elif not wait:
                print(f"{job.id} is {job.state}; watch it: fovea jobs watch {job.id}")
            else:
                job = watch_job(job, f"trying variants of {name}:{number}", as_json=as_json)
            if not wait or as_json:
                return
            _print_images(job.result or {})
        found = client.models.variants(name, number)
    print_json(found.to_dict()) if as_json else _print_variants(found)


def resolve(client: "Fovea", text: str) -> tuple[str, int]:
    """The model and the number of the version that a reference means. Raises InvalidReference."""
    from cli.errors import CliError
    from storage.reference import LATEST, Reference

    reference = Reference.parse(text)
    if reference.number is not None:
        return reference.model, reference.number
    model = client.models.get(reference.model)
    aliases = {**model.aliases, LATEST: model.latest}
    number = aliases.get(reference.alias or "production") or (None if reference.alias else model.latest)
    if number is None:
        missing = f"{text} is no alias of it" if reference.alias else f"{reference.model} has no version yet"
        raise CliError(missing)
    return reference.model, number


def _print_images(result: Mapping[str, Any]) -> None:
    print(f"calibrated on {result['calibrated_on']} images, judged on {result['judged_on']} others")
    if result.get("left_out"):
        labels = ", ".join(result["left_out_labels"])
        print(f"left out: {result['left_out']} images whose labels the version does not have ({labels})")
    print()


def _print_variants(found: "Variants") -> None:
    from cli.output import print_table

    name = f"{found.model}:{found.version}"
    if not found.variants:
        print(f"No variant of {name} was tried yet: fovea models variants {name} --dataset DATASET")
        return
    print(f"{name} can be asked for {', '.join(found.precisions)}\n")
    columns = ("precision", "passed", "accuracy", "difference", "agreement", "speed-up", "reason")
    rows = [_row(precision, report) for precision, report in found.variants.items()]
    print_table(columns, rows, right=("accuracy", "difference", "agreement", "speed-up"))


def _row(precision: str, report: Mapping[str, Any]) -> tuple[str, ...]:
    from cli.output import percent

    def shown(figure: str) -> str:
        return "" if report.get(figure) is None else percent(report[figure])

    speedup = report.get("speedup")
    return (
        precision,
        "yes" if report.get("passed") else "no",
        shown("accuracy"),
        _difference(report),
        shown("agreement"),
        "" if speedup is None else f"{speedup:.2f}",
        str(report.get("reason") or ""),
    )


def _difference(report: Mapping[str, Any]) -> str:
    """In points, with where it lies with 95 %: `-0.2 (-1.1 to +0.7)`."""
    if report.get("difference") is None:
        return ""
    interval = report.get("difference_interval")
    within = f" ({interval[0]:+.1f} to {interval[1]:+.1f})" if interval else ""
    return f"{report['difference']:+.1f}{within}"
