"""Values that several kinds of jobs take."""

from collections.abc import Callable
from typing import Annotated

from pydantic import (
    BaseModel,
    StringConstraints,
)

from models.validation import BRANCH

# Small letters, as the names of weights and of models are.
WeightsName = Annotated[str, StringConstraints(min_length=1, to_lower=True)]


def named_or(form: str, name: str) -> Callable[[object], str | None]:
    """Tells apart what is written by a name and what is written out, a list or an object."""

    def branch(value: object) -> str | None:
        if isinstance(value, list | tuple | dict | BaseModel):
            return f"{BRANCH}{form}"
        return f"{BRANCH}{name}" if value == name else None

    return branch
