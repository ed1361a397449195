"""Whether the settings name places that can be used, told before a process begins its work."""

from storage.blobs import BlobStore
from storage.database_url import require_usable
from storage.settings import StorageSettings


def check_places(settings: StorageSettings) -> None:
    """Raises StorageError for a URL of no database or store of files; connects to neither."""
    require_usable(settings.database)
    BlobStore(settings.blobs)
