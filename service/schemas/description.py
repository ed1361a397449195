"""What people write to a model or a webhook, and what of it is refused."""

from typing import Annotated

from pydantic import AfterValidator, Field

from storage.text import LONGEST_DESCRIPTION, description_fault


def _described(text: str) -> str:
    if fault := description_fault(text):
        raise ValueError(fault)
    return text


Description = Annotated[str, Field(max_length=LONGEST_DESCRIPTION), AfterValidator(_described)] | None
