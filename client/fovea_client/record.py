"""What the API answers, as frozen dataclasses that know their fields and keep whatever else came."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from fovea_client.answer import Json, NotFoveasAnswer

READ = "fovea_client.read"
# The metadata of a field with a time, which the API gives in RFC 3339, and of one with a list.
MOMENT = {READ: datetime.fromisoformat}
TUPLE = {READ: tuple}


@dataclass(frozen=True)
class Record:
    """`raw` is the whole answer as it came, with what a newer server added."""

    raw: Json = field(repr=False, compare=False, kw_only=True, default_factory=dict)

    @classmethod
    def read(cls, found: Json, **more: Any) -> Self:
        """From the answer's JSON; what it has that this class does not is in `raw`.

        Raises NotFoveasAnswer where a field is missing or is no such value.
        """
        values: dict[str, Any] = {}
        for known in dataclasses.fields(cls):
            if known.name == "raw" or known.name in more or known.name not in found:
                continue
            value = found[known.name]
            read: Callable[[Any], Any] | None = known.metadata.get(READ)
            try:
                values[known.name] = read(value) if read and value is not None else value
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                raise NotFoveasAnswer(f"{known.name} is {value!r}") from error
        try:
            return cls(**values, **more, raw=found)
        except TypeError as error:
            raise NotFoveasAnswer(f"fields of a {cls.__name__} are missing in {sorted(found)}") from error

    def to_dict(self) -> Json:
        """As the API gave it."""
        return dict(self.raw)


def part(kind: type[Record]) -> dict[str, Any]:
    """The metadata of a field that is a record."""
    return {READ: kind.read}


def parts(kind: type[Record]) -> dict[str, Any]:
    """The metadata of a field with a list of records."""
    return {READ: lambda found: tuple(map(kind.read, found))}
