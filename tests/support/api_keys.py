from datetime import UTC, datetime

from storage.keys import Key


def api_key(prefix: str) -> Key:
    """One that nobody keeps."""
    return Key(prefix, "laptop", (), datetime.now(UTC), None, None)
