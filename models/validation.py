"""What pydantic finds wrong with a request, in words that say what was given and what was expected."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel

# What tells the branches of a union apart stands in pydantic's path of a field, but is no part of the JSON.
BRANCH = "~"
# A body of a megabyte can hold 80,000 faults. To word them all would take seconds and answer with many megabytes.
MOST_FAULTS = 20
LONGEST_SHOWN = 80


@dataclass(frozen=True)
class InvalidField:
    """`field` is the path from the request's root, such as `recipe.augmentation.mirror`."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@dataclass(frozen=True)
class InvalidFields:
    """The first faults of a request, at most `MOST_FAULTS`, and how many `more` there are."""

    faults: tuple[InvalidField, ...]
    more: int = 0

    @classmethod
    def first_of(cls, faults: Iterable[InvalidField], count: int) -> "InvalidFields":
        """The first of `count` faults; no other is taken from the iterable."""
        first = tuple(islice(faults, MOST_FAULTS))
        return cls(first, count - len(first))

    def __str__(self) -> str:
        rest = [f"and {self.more:,} more"] if self.more else []
        return "; ".join([*map(str, self.faults), *rest])


def invalid_fields(
    errors: Sequence[Mapping[str, Any]], model: type[BaseModel] | None = None, root: str = ""
) -> InvalidFields:
    """A fault for each of pydantic's `ValidationError.errors()`, its path beginning at `root`.

    With the `model` that was validated, a field that does not exist is answered with the one that is most like it.
    """
    return InvalidFields.first_of((_fault(error, model, root) for error in errors), len(errors))


def shortened(text: str) -> str:
    """Text of a request's as an answer repeats it: at most `LONGEST_SHOWN` characters of it."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _fault(error: Mapping[str, Any], model: type[BaseModel] | None, root: str) -> InvalidField:
    if error["type"] == "json_invalid":
        return _fault_of_text(error)
    path = [part for part in error["loc"] if not str(part).startswith(BRANCH)]
    field = ".".join(shortened(str(part)) for part in ([root, *path] if root else path))
    if error["type"] == "missing":
        return InvalidField(field, "it is missing, and has no default")
    if error["type"] == "extra_forbidden":
        return InvalidField(field, f"there is no such field{_nearest(path, model)}")
    # JSON has no tuples.
    message = worded = re.sub("^Tuple ", "List ", str(error["msg"]))
    for begin in ("Input should be ", "Value error, "):
        message = message.removeprefix(begin)
    if message == worded:
        return InvalidField(field, message[:1].lower() + message[1:])
    expected = re.sub("^a valid dictionary or instance of .*", "an object of fields", message)
    expected = re.sub("^(?=greater|less)", "a value ", expected)
    return InvalidField(field, f"got {_shown(error['input'])}, expected {expected}")


def _fault_of_text(error: Mapping[str, Any]) -> InvalidField:
    """Of what is no JSON at all: FastAPI's path ends with the character that it was read to."""
    field = ".".join(part for part in error["loc"] if isinstance(part, str))
    at = "".join(f" at character {part}" for part in error["loc"] if isinstance(part, int))
    return InvalidField(field, f"it is not JSON: {error['ctx']['error']}{at}")


def _shown(value: object) -> str:
    # Writes only the beginning of what is large, and is not deep where the value is.
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = LONGEST_SHOWN
    return shortened(brief.repr(value))


def _nearest(path: Sequence[Any], model: type[BaseModel] | None) -> str:
    known = sorted({name for kind in _models_at(path[:-1], model) for name in kind.model_fields})
    if not known:
        return ""
    close = difflib.get_close_matches(shortened(str(path[-1])), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; the fields are {', '.join(known)}"


def _models_at(path: Sequence[Any], model: type[BaseModel] | None) -> list[type[BaseModel]]:
    """The models whose fields may stand at the path."""
    found = [] if model is None else [model]
    for name in (part for part in path if isinstance(part, str)):
        fields = (kind.model_fields.get(name) for kind in found)
        found = [kind for field in fields if field is not None for kind in _models_in(field.annotation)]
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names, in unions, lists and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
