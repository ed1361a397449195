"""Names of models and aliases, and the references that are made of them: `name`, `name@alias`, `name:3`."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from storage.errors import InvalidName, InvalidReference

LATEST = "latest"
PRODUCTION = "production"

MODEL_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
ALIAS = r"[a-z][a-z0-9_-]{0,31}"
TAG = r"[a-z0-9][a-z0-9._:=/-]{0,62}"
MOST_TAGS = 20
_MODEL = re.compile(MODEL_NAME)
_ALIAS = re.compile(ALIAS)
_TAG = re.compile(TAG)
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Reference:
    """A model reference, taken apart; `alias` and `number` are never both there."""

    model: str
    alias: str | None = None
    number: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Raises InvalidReference."""
        model, at, alias = text.partition("@")
        if not at:
            model, colon, number = text.partition(":")
            if _MODEL.fullmatch(model) and not colon:
                return cls(model)
            if _MODEL.fullmatch(model) and _NUMBER.fullmatch(number):
                return cls(model, number=int(number))
        elif _MODEL.fullmatch(model) and _ALIAS.fullmatch(alias):
            return cls(model, alias=alias)
        raise InvalidReference(
            f"{text[:100]!r} is not a model reference. Expected `name`, `name@alias` or `name:3`, with a name of "
            "small letters, digits and `.`, `_`, `-`."
        )

    def __str__(self) -> str:
        if self.alias is not None:
            return f"{self.model}@{self.alias}"
        return self.model if self.number is None else f"{self.model}:{self.number}"


def check_model_name(name: str) -> None:
    """Raises InvalidName for a name that no new model can have."""
    if not _MODEL.fullmatch(name):
        raise InvalidName(
            f"{name[:100]!r} cannot name a model. Expected 1 to 63 small letters, digits and `.`, `_`, `-`, the "
            "first a letter or a digit."
        )


def check_alias(alias: str) -> None:
    """Raises InvalidName for an alias that nobody can set."""
    if alias == LATEST:
        raise InvalidName(f"The alias `{LATEST}` moves by itself: it is always the highest version.")
    if not _ALIAS.fullmatch(alias):
        raise InvalidName(
            f"{alias[:100]!r} cannot be an alias. Expected 1 to 32 small letters, digits, `_` and `-`, the first "
            "a letter."
        )


def is_model_name(name: str) -> bool:
    return _MODEL.fullmatch(name) is not None


def check_tags(tags: Collection[str]) -> tuple[str, ...]:
    """The tags of a model in order, each once. Raises InvalidName."""
    chosen = tuple(sorted(set(tags)))
    for tag in chosen:
        if not _TAG.fullmatch(tag):
            raise InvalidName(
                f"{tag[:100]!r} is no tag. Expected up to 63 small letters, digits and `.`, `_`, `:`, `=`, `/`, "
                "`-`, a letter or digit first."
            )
    if len(chosen) > MOST_TAGS:
        raise InvalidName(f"{len(chosen)} tags are too many; a model may have {MOST_TAGS}.")
    return chosen
