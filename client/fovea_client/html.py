"""What a notebook shows of a job and of a prediction. Everything that came from elsewhere is escaped."""

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

from fovea_client.image import media_type_of
from fovea_client.words import describe, fraction_done, percent

if TYPE_CHECKING:
    from fovea_client.jobs import Job
    from fovea_client.prediction import Prediction

# A picture of more bytes is made smaller, or left out where there is no Pillow: a notebook keeps what it shows.
MOST_BYTES = 96 * 2**10
SIDE_PX = 160
BAR_PX = 120
MOST_LABEL = 80
SHOWN_BY_BROWSERS = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/avif"})
COLOURS = {"succeeded": "#2e7d32", "failed": "#c62828", "cancelled": "#757575"}


def job_bar(job: "Job[Any]") -> str:
    """One line: the bar, then how far it is, or why it failed."""
    done = fraction_done(job)
    colour = COLOURS.get(job.state, "#1565c0")
    words = describe(job)
    if job.error and job.state == "failed":
        words += f": {job.error.get('detail')} ({job.error.get('code')})"
    return (
        f'<div style="font-family:sans-serif"><div style="{_frame(2 * BAR_PX)}">{_bar(done or 0.0, colour)}</div> '
        f"{escape(job.kind)} <code>{escape(job.id)}</code>: {escape(words)}</div>"
    )


def prediction_table(prediction: "Prediction") -> str:
    """The picture, if there is one to show, beside a row for each class."""
    rows = "".join(
        f"<tr><td>{escape(_shortened(found.label))}</td>"
        f'<td><div style="{_frame(BAR_PX)}">{_bar(found.probability, "#1565c0")}</div></td>'
        f'<td style="text-align:right">{percent(found.probability)}</td></tr>'
        for found in prediction.classes
    )
    if prediction.unknown and prediction.unknown.is_unknown and not prediction.error:
        rows = f'<tr><td colspan="3" style="color:{COLOURS["failed"]}">none of these</td></tr>{rows}'
    if prediction.error:
        rows = f'<tr><td style="color:{COLOURS["failed"]}">{escape(str(prediction.error))}</td></tr>'
    name = f"<caption>{escape(_shortened(prediction.name))}</caption>" if prediction.name else ""
    address = picture_address(prediction)
    shown = f"max-width:{SIDE_PX}px;max-height:{SIDE_PX}px"
    picture = f'<img src="{address}" alt="" style="{shown}">' if address else ""
    return f'<div style="display:flex;gap:1em;align-items:center">{picture}<table>{name}{rows}</table></div>'


def picture_address(prediction: "Prediction") -> str | None:
    """The image that was sent, as a data URL of about `MOST_BYTES` at most; None where it cannot be shown."""
    try:
        image = prediction.source.load() if prediction.source else b""
    except OSError:
        return None
    media_type = media_type_of(image)
    if len(image) > MOST_BYTES or media_type not in SHOWN_BY_BROWSERS:
        image, media_type = _thumbnail(image), "image/png"
    if not image or len(image) > MOST_BYTES:
        return None
    return f"data:{media_type};base64,{base64.b64encode(image).decode()}"


def _thumbnail(image: bytes) -> bytes:
    """Nothing where there is no Pillow, or where it cannot read the image."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        return b""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            opened.draft("RGB", (SIDE_PX, SIDE_PX))
            small = ImageOps.exif_transpose(opened).convert("RGB")
            small.thumbnail((SIDE_PX, SIDE_PX))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return b""
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()


def _frame(width_px: int) -> str:
    return f"display:inline-block;width:{width_px}px;height:.8em;background:#8883;border-radius:2px"


def _bar(fraction: float, colour: str) -> str:
    share = 100 * min(1.0, max(0.0, fraction))
    return f'<div style="width:{share:.1f}%;height:100%;background:{colour};border-radius:2px"></div>'


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_LABEL else f"{text[: MOST_LABEL - 1]}…"
