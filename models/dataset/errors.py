"""Everything that can be wrong with a dataset as a whole; what is wrong with single files is in the report.

DatasetError
├── DatasetNotFound      no complete dataset lies there: there is no dataset.json
├── DatasetCorrupt       a file of a complete dataset is missing, damaged or contradicts another
├── DatasetExists        the destination is taken
├── DatasetRefused       faults that no policy can skip, or the policy is to refuse; carries the report
├── LayoutUnclear        which label a picture has can be read in more than one way, or in none
└── ArchiveError
    ├── ArchiveUnreadable    damaged, encrypted, or not a zip or tar archive
    ├── UnsafeArchive        a member that reaches out of its folder, a link, a device, a name twice
    ├── LimitExceeded        more of something than `Limits` allows
    └── MemberDamaged        one member of a sound archive cannot be read
"""

from typing import TYPE_CHECKING

from models.errors import ModelError

if TYPE_CHECKING:
    from models.dataset.report import Report


class DatasetError(ModelError):
    """Base of every error about a dataset; its text is safe to show to a user."""


class DatasetNotFound(DatasetError):
    """No complete dataset lies there."""


class DatasetCorrupt(DatasetError):
    """A complete dataset whose files are missing, damaged or contradict one another."""


class DatasetExists(DatasetError):
    """Something lies at the destination already; datasets are never overwritten."""


class DatasetRefused(DatasetError):
    """The dataset cannot be used, or its user asked for faults to be refused; `report` lists every fault."""

    def __init__(self, report: "Report") -> None:
        super().__init__("; ".join(report.refusals))
        self.report = report


class LayoutUnclear(DatasetError):
    """The labels cannot be told from the folders or the manifest without guessing."""


class ArchiveError(DatasetError):
    """Base of everything about an archive or a folder as a source of files."""


class ArchiveUnreadable(ArchiveError):
    """Damaged, encrypted, compressed in an unknown way, or not an archive at all."""


class UnsafeArchive(ArchiveError):
    """A member that no honest archive of pictures has: a link, a device, a path that leaves its folder."""


class LimitExceeded(ArchiveError):
    """The source is larger than the limits allow; `limit` names the field of `Limits`."""

    def __init__(self, limit: str, detail: str) -> None:
        super().__init__(detail)
        self.limit = limit


class MemberDamaged(ArchiveError):
    """One member cannot be read; the others can."""
