"""`fovea finetune`: images in, a new version of a model out, through a running Fovea."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from cli.options import AsJson, Key, OnFault, Params, Url, read_object

# A phase that took less is not worth a word.
LEAST_TOLD_S = 0.05


def finetune(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", help="A dataset's id, builtin:digits, or a folder or archive, which is sent first."
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="The model whose next version this becomes.")],
    architecture: Annotated[
        str, typer.Option("--architecture", "-a", help="As `fovea architectures list` has it.")
    ],
    params: Params = None,
    weights: Annotated[
        str, typer.Option("--weights", "-w", help="What to start from: imagenet, none, an id, or NAME@ALIAS.")
    ] = "imagenet",
    strategy: Annotated[
        Literal["auto", "head", "partial", "full"], typer.Option(help="What is trained.")
    ] = "auto",
    recipe: Annotated[str, typer.Option(help="A preset's name, a JSON object, or @FILE with one.")] = "default",
    validation_fraction: Annotated[
        float | None,
        typer.Option(min=0.01, max=0.9, help="Share of each class that validates, where there is no split."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same split.")] = 0,
    promote: Annotated[
        Literal["never", "if_better", "always"], typer.Option(help="Whether `production` moves to it.")
    ] = "never",
    variants: Annotated[
        Literal["auto", "none"], typer.Option(help="Whether faster variants of it are tried afterwards.")
    ] = "auto",
    on_fault: OnFault = "skip",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch the job until it ends.")] = True,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Learn a dataset's classes and publish the result. Ctrl-C stops watching, not the job."""
    from cli.connection import connect
    from cli.dataset_upload import named_dataset
    from cli.job_progress import watch_job
    from cli.output import print_json_line

    request: dict[str, Any] = {
        "model": model,
        "architecture": architecture,
        "weights": weights,
        "strategy": strategy,
        "recipe": read_recipe_option(recipe),
        "seed": seed,
        "promote": promote,
        "variants": variants,
    }
    if params is not None:
        request["architecture_params"] = read_object(params, "--params")
    if validation_fraction is not None:
        request["validation"] = {"fraction": validation_fraction}
    with connect(url, key) as client:
        request["dataset"] = named_dataset(client, dataset, on_fault, lambda: _check_before_sending(request))
        job = client.finetune(**request)
        for warning in job.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        if wait:
            job = watch_job(job, f"learning {model}", as_json=as_json)
    if not wait and as_json:
        print_json_line(job.to_dict())
    elif not wait:
        print(f"{job.id} is {job.state}; watch it: fovea jobs watch {job.id}")
    elif not as_json:
        _print_result(job.result or {})


def read_recipe_option(text: str) -> str | dict[str, Any]:
    """A preset's name as it is, JSON or a file of it as an object. Raises BadParameter."""
    is_name = not text.startswith("@") and not text.lstrip().startswith("{")
    return text if is_name else read_object(text, "--recipe")


def _check_before_sending(request: Mapping[str, Any]) -> None:
    """A mistake is told before gigabytes are sent, not after. Raises the errors of models and storage."""
    from models.training.recipe import read_recipe
    from models.zoo.catalogue import describe
    from storage.reference import check_model_name

    check_model_name(request["model"])
    describe(request["architecture"])
    read_recipe(request["recipe"])


def _print_result(result: Mapping[str, Any]) -> None:
    from cli.output import print_table

    name, version = result["model"], result["version"]
    print_table(("", ""), _rows(result))
    print(f"\nTry it: fovea classify FILE --model {name}:{version}")
    print(f"How good it is: fovea models card {name} {version} --output card.html")
    if not result.get("promoted"):
        print(f"Let it serve: fovea models promote {name} {version}")
    if result.get("variants_job"):
        print(f"Faster variants are being tried: fovea jobs watch {result['variants_job']}")


def _rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    from cli.output import duration, percent

    metrics: dict[str, Any] = result.get("metrics") or {}
    strategy, promotion = result.get("strategy") or {}, result.get("promotion") or {}
    rows = [("model", f"{result['model']} version {result['version']}")]
    for label, figure in (
        ("accuracy", "accuracy"),
        ("top-5 accuracy", "top5_accuracy"),
        ("macro-F1", "macro_f1"),
        ("always the most frequent class", "baseline_accuracy"),
        ("calibration error", "calibration_error"),
    ):
        if metrics.get(figure) is not None:
            rows.append((label, percent(metrics[figure])))
    if metrics.get("measured_on"):
        rows.append(("measured on", f"{metrics.get('images')} {metrics['measured_on']} images"))
    if strategy:
        rows.append(("strategy", f"{strategy.get('strategy')}: {strategy.get('reason')}"))
    if promotion:
        answers = "serves as production" if result.get("promoted") else "not promoted"
        rows.append(("promotion", f"{answers}: {promotion.get('reason')}" if promotion.get("reason") else answers))
    if seconds := result.get("seconds"):
        each = ", ".join(f"{phase} {spent:.1f} s" for phase, spent in seconds.items() if spent >= LEAST_TOLD_S)
        rows.append(("time", f"{duration(sum(seconds.values()))}: {each}" if each else "0:00"))
    return rows
