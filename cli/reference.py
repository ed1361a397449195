"""Which version a reference on the command line means."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fovea_client import Fovea


def resolve(client: "Fovea", text: str) -> tuple[str, int]:
    """The model and the number of the version that a reference means. Raises InvalidReference."""
    from cli.errors import CliError
    from storage.reference import LATEST, Reference

    reference = Reference.parse(text)
    if reference.number is not None:
        return reference.model, reference.number
    model = client.models.get(reference.model)
    aliases = {**model.aliases, LATEST: model.latest}
    number = aliases.get(reference.alias or "production") or (None if reference.alias else model.latest)
    if number is None:
        missing = f"{text} is no alias of it" if reference.alias else f"{reference.model} has no version yet"
        raise CliError(missing)
    return reference.model, number
