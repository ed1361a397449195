"""`Fovea.architectures`: the zoo, what can be trained and published."""

from fovea_client import calls
from fovea_client.operation import Mode, Resource, listing, operation
from fovea_client.plan import Feed, Plan
from fovea_client.records import Architecture
from fovea_client.session import Session


class Architectures(Resource[Mode]):
    """Networks by name."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @listing
    def list(self, *, search: str | None = None) -> Feed[Architecture]:
        """The oldest first; `search` has words of name, family, year or paper."""
        return (yield from self._session.items(calls.list_architectures(search)))

    @operation
    def get(self, name: str) -> Plan[Architecture]:
        """One with its weights and its table of layers. Raises NotFound."""
        return (yield from self._session.answer(calls.get_architecture(name)))
