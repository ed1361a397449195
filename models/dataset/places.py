"""What the files of a dataset are called, below its folder or its prefix. Standard library only."""

MANIFEST = "dataset.json"
SAMPLES = "samples.jsonl"
REPORT = "report.json"
# Of a revision alone: see `models.dataset.draw`.
DRAW = "draw.json"
FILES, THUMBNAILS = "files", "thumbnails"


def file_name(sha256: str) -> str:
    return f"{FILES}/{sha256[:2]}/{sha256}"


def thumbnail_name(sha256: str) -> str:
    return f"{THUMBNAILS}/{sha256}.webp"
