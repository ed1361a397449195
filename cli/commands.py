"""The command line as a whole, which says what is wrong with an option in the words of its user."""

from typing import Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """Every option of every command is read below this one's `invoke`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _plain(error)
            raise


def _plain(error: typer.BadParameter) -> str:
    """The message without the words of pydantic, which typer has read the option by."""
    message = error.message.removeprefix("Value error, ")
    if not message.startswith("Input should be "):
        return message
    expected = message.removeprefix("Input should be ").partition(", ")[0]
    faults: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
    given = f"{faults[0]['input']!r} was given, " if faults else ""
    return f"{given}expected is {expected}."
