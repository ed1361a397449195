"""Everything the command line can say in one line on stderr before it ends with a non-zero exit code.

What a running Fovea has to say comes as an error of the Python client (`fovea_client.errors`).

CliError
├── Detached             Ctrl-C ended the watching, not the job
├── DatasetUnusable      what was given is no dataset, or was refused
├── FileNotWritten       no room, no right, or no such folder
├── DataFolderUnusable   cannot be made or written
├── DataFolderInUse      another Fovea has locked it
├── AddressUnusable      the port is taken or the host is not this machine's
├── RedisUnavailable     no server binary here, or the given server does not answer
└── StartFailed          a child process never became ready
"""


class CliError(Exception):
    """Base of every expected failure; its text is the line that the user reads."""

    exit_code = 1


class Detached(CliError):
    """The user stopped watching; the job goes on."""

    exit_code = 130


class DatasetUnusable(CliError):
    """Nothing to learn from lies there, or the check refused it."""


class FileNotWritten(CliError):
    """What was asked for could not be written to this machine."""


class DataFolderUnusable(CliError):
    """The data folder cannot be made, written or locked."""


class DataFolderInUse(CliError):
    """Another Fovea works in the data folder."""


class AddressUnusable(CliError):
    """The gateway cannot listen where it was asked to."""


class RedisUnavailable(CliError):
    """There is no Redis server to start, or the one given does not answer."""


class StartFailed(CliError):
    """A part of Fovea failed again and again before it was ever ready."""
