"""`fovea classify --explain`: where the best class of each image was seen, drawn over it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer

from cli.classify import ClassifiedFile
from cli.errors import FileNotWritten
from fovea_client import ApiError, Fovea, Unauthorized

OPTION = "--explain"


def check_drawing(output: Path, files: Sequence[str], *, is_job: bool) -> None:
    """Raises BadParameter and FileNotWritten before anything is classified."""
    if is_job:
        raise typer.BadParameter("it excludes --csv and --jsonl", param_hint=OPTION)
    if output.suffix.lower() != ".png":
        raise typer.BadParameter(
            f"got {output}; the picture is a PNG, so give a name such as out.png", param_hint=OPTION
        )
    drawings = [drawing_of(output, file, len(files)) for file in files]
    if twice := sorted({str(drawing) for drawing in drawings if drawings.count(drawing) > 1}):
        raise typer.BadParameter(f"several files would be drawn into {', '.join(twice)}", param_hint=OPTION)
    if not output.parent.is_dir():
        raise FileNotWritten(f"{output} cannot be written: there is no folder {output.parent}")
    read = {Path(file).resolve() for file in files if file != "-"}
    if over := [drawing for drawing in drawings if drawing.resolve() in read]:
        raise typer.BadParameter(f"{over[0]} is one of the images", param_hint=OPTION)


def drawing_of(output: Path, file: str, files: int) -> Path:
    """`out.png` for one image, `out-NAME.png` for one of several."""
    if files == 1:
        return output
    return output.with_name(f"{output.stem}-{'stdin' if file == '-' else Path(file).stem}{output.suffix}")


def draw(
    client: Fovea, outcomes: Sequence[ClassifiedFile], model: str, output: Path, precision: str
) -> list[ClassifiedFile]:
    """The outcomes with what was drawn of each; one that cannot be explained says why. Raises FileNotWritten."""
    drawings = [drawing_of(output, outcome.file, len(outcomes)) for outcome in outcomes]
    return [
        outcome if outcome.code else _drawn(client, outcome, model, drawing, precision)
        for outcome, drawing in zip(outcomes, drawings, strict=True)
    ]


def _drawn(client: Fovea, outcome: ClassifiedFile, model: str, drawing: Path, precision: str) -> ClassifiedFile:
    best = outcome.classes[0]["index"]
    try:
        found = client.explain(outcome.image or outcome.file, model=model, label=best, precision=precision)
    except Unauthorized:
        raise
    except ApiError as error:
        return replace(outcome, code=error.code, detail=error.detail)
    except OSError as error:
        return replace(outcome, code="unreadable_file", detail=error.strerror or str(error))
    try:
        found.save_png(drawing)
    except OSError as error:
        raise FileNotWritten(f"{drawing} cannot be written: {error.strerror or error}") from error
    told = {"file": str(drawing), "class": found.label, "method": found.method}
    return replace(outcome, explained={**told, "region": found.region, "box": found.box})
