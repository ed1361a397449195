"""Everything that can go wrong with what is kept. Knows no HTTP: the gateway gives each of these its status.

StorageError
├── NotFound             carries what kind of thing was looked for, and its name
├── Conflict             it exists already, as something else
├── InUse                it cannot be deleted while something needs it
├── NoEarlierVersion     an alias was at no version before that it could be rolled back to
├── InvalidName          a name for something new that breaks the rules for names
├── InvalidReference     text that is no model reference
├── InvalidCursor        text that is no cursor of this listing
├── TooManyJobs          a key has as many jobs waiting as it may
├── StorageQuota         a key's datasets would have more bytes than they may
├── LeaseLost            the attempt no longer holds its job; whatever it made is void
├── SchemaMismatch       the database's tables are not those this release knows
├── DatabaseUnavailable  the database cannot be reached, is full, or gave up waiting
├── InvalidSettings      the environment says what no setting can be
├── BackupUnusable       a backup is damaged, not whole, or none
├── NotEmpty             a backup would be restored over something
└── BlobsUnavailable     the files cannot be reached, or the disk is full
"""


class StorageError(Exception):
    """Base of every error about what is kept; its text is safe to show to a user."""


class NotFound(StorageError):
    """There is no such thing; `kind` is one of `model`, `version`, `alias`, `job`, `dataset`, `key`, `webhook`,
    `file` and `folder`."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"There is no {self.kind} {self.name!r}."


class Conflict(StorageError):
    """What was asked for contradicts what is there already."""


class InUse(StorageError):
    """Something still needs it; the text says what."""


class NoEarlierVersion(StorageError):
    """The alias cannot be rolled back: it was never at another version that is still there."""

    def __init__(self, model: str, alias: str, version: int) -> None:
        super().__init__(model, alias, version)
        self.model, self.alias, self.version = model, alias, version

    def __str__(self) -> str:
        return (
            f"{self.model}@{self.alias} is at version {self.version}, and there is no earlier version that it was "
            "at and that still exists. Set it to the version that it is to be at."
        )


class InvalidName(StorageError):
    """The name breaks the rules for names; the text gives the rules."""


class InvalidReference(StorageError):
    """The text is not a model reference; the text says what one looks like."""


class InvalidCursor(StorageError):
    """The cursor was not made by this listing."""


class TooManyJobs(StorageError):
    """The key that makes the job has as many waiting as it may."""

    def __init__(self, waiting: int, most: int) -> None:
        super().__init__(waiting, most)
        self.waiting, self.most = waiting, most

    def __str__(self) -> str:
        return (
            f"{self.waiting} jobs of this key are waiting already, and it may have {self.most}. Wait until one "
            "begins, or cancel one."
        )


class StorageQuota(StorageError):
    """The dataset's bytes and those that its key stores already are more than it may have."""

    def __init__(self, wanted: int, most: int) -> None:
        super().__init__(wanted, most)
        self.wanted, self.most = wanted, most

    def __str__(self) -> str:
        return (
            f"With this one the key's datasets would have {self.wanted} bytes, and it may store {self.most}. "
            "Delete a dataset that was uploaded with this key."
        )


class LeaseLost(StorageError):
    """Another attempt holds the job, or it has ended. The loser stops and discards its work."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"The lease on job {self.job_id} is lost: another attempt holds it, or the job has ended."


class SchemaMismatch(StorageError):
    """The tables are older or newer than this release knows; the text says which, and what to do."""


class DatabaseUnavailable(StorageError):
    """The database cannot be used now; the same call may work later."""


class BlobsUnavailable(StorageError):
    """The files cannot be read or written now; the same call may work later."""


class InvalidSettings(StorageError):
    """A setting cannot be what the environment or a secret file says; the text names it and has no secret."""


class BackupUnusable(StorageError):
    """The file is no whole backup, or it was damaged; the text says what was found."""


class NotEmpty(StorageError):
    """There are models, datasets, jobs or files already, which a restore without force does not touch."""

    def __str__(self) -> str:
        return (
            "There are models, datasets, jobs or files here already. Restore into an empty Fovea, or have "
            "everything here replaced: --force."
        )
