"""What was found out about a version beside its metrics: for programs in its manifest, for people in its card."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.card.blocks import Block


@dataclass(frozen=True)
class Finding:
    """`facts` stand under `name` among the manifest's findings, `blocks` under `heading` in the card."""

    name: str
    facts: dict[str, Any]
    heading: str = ""
    blocks: Sequence[Block] = ()
