"""Whether the settings name places that can be used, told before a process begins its work."""

from storage.blobs import BlobStore
from storage.database import open_database
from storage.settings import StorageSettings


def check_places(settings: StorageSettings) -> None:
    """Raises StorageError for a URL of no database or store of files; connects to neither."""
    open_database(settings.database).close()
    BlobStore(settings.blobs)
