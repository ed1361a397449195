"""What a client of the API may be told: every status with every code, by the service's tables and source."""

import ast
from http import HTTPStatus
from typing import Any

from support.pages import ROOT

from service.errors import STATUS_AND_CODE, STATUS_OF_WORKER_CODE

# Rows of storage that only workers or the command line miss: no client of the API is told of them.
NEVER_ASKED_BY_CLIENTS = {"folder", "key"}


def statuses_and_codes() -> set[tuple[int, str]]:
    """All that a client may be told: by the tables, for what storage does not find, as the source raises."""
    told = {*STATUS_AND_CODE.values(), *((status, code) for code, status in STATUS_OF_WORKER_CODE.items())}
    told |= {(404, f"unknown_{kind}") for kind in arguments_of("NotFound", "storage")} - {
        (404, f"unknown_{kind}") for kind in NEVER_ASKED_BY_CLIENTS
    }
    told |= {(status, HTTPStatus(status).phrase.lower().replace(" ", "_")) for status in (404, 405)}
    for status, code in arguments_of("Problem", "service", 2):
        told.add((status, code))
    return told


def arguments_of(function: str, room: str, count: int = 1) -> set[Any]:
    """The first arguments of every call in the source that are written there as they are."""
    found: set[Any] = set()
    for file in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == function:
                values = [argument.value for argument in node.args[:count] if isinstance(argument, ast.Constant)]
                if len(values) == count:
                    found.add(tuple(values) if count > 1 else values[0])
    return found
