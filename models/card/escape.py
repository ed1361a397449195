"""Any text as Markdown that says just that."""

import re


def escape_markdown(text: str) -> str:
    """Text that no Markdown reader takes for markup, on one line."""
    return re.sub(r"([\\`*\[\]<>|#~$&]|\b_|_\b)", r"\\\1", " ".join(text.split()))
