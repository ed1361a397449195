"""The `Prefer` header (RFC 7240): `respond-async`, and `wait=SECONDS` for an own deadline."""

import math
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header

from service.errors import Problem


@dataclass(frozen=True)
class Preferences:
    respond_async: bool = False
    wait_s: float | None = None


NO_PREFERENCES = Preferences()


async def preferences(
    prefer: Annotated[
        str | None,
        Header(
            description="`respond-async`: answer 202 with a job at once. `wait=5`: give up (504) after 5 seconds."
        ),
    ] = None,
) -> Preferences:
    """What the header asks for; preferences we do not know are ignored, as the RFC wants.

    A coroutine, though it awaits nothing: FastAPI would run a function in a thread, for every request.
    """
    wanted = dict(_preference(part) for part in (prefer or "").split(","))
    return Preferences("respond-async" in wanted, _seconds(wanted["wait"]) if "wait" in wanted else None)


def _preference(part: str) -> tuple[str, str]:
    name, _, value = part.partition(";")[0].partition("=")
    return name.strip().lower(), value.strip().strip('"')


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise Problem(400, "bad_preference", f"Prefer: wait={text} is not a number of seconds above 0.")
    return seconds
