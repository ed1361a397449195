"""Query parameters that a call does not know are refused: a misspelt one would be ignored in silence."""

import difflib

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from models.validation import InvalidField, InvalidFields, shortened
from service.errors import invalid_request


async def refuse_unknown_parameters(request: Request) -> None:
    """A dependency of every call. Raises Problem 422 that names each unknown parameter and the nearest known one.

    A coroutine, though it awaits nothing: FastAPI would run a function in a thread, for every request.
    """
    route: APIRoute = request.scope["route"]
    if not request.scope["query_string"]:
        return
    given = request.query_params.keys()
    # Those of its own, which are nearly always all; only for others are its dependencies' looked for.
    if given <= {parameter.alias for parameter in route.dependant.query_params}:
        return
    parameters = get_flat_params(route.dependant)
    known = sorted(known.alias for known in parameters if isinstance(known.field_info, Query))
    unknown = [name for name in given if name not in known]
    if unknown:
        faults = (InvalidField(f"query.{shortened(name)}", _message(name, known)) for name in unknown)
        raise invalid_request(InvalidFields.first_of(faults, len(unknown)))


def _message(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(shortened(name), known, n=1, cutoff=0.5)
    if near:
        return f"no such parameter; did you mean {near[0]}?"
    return f"no such parameter; this call has {', '.join(known) or 'none'}"
