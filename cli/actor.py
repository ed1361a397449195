"""Who acts where a command works on the database itself, for the audit log."""

import getpass


def act_as_user() -> None:
    """From now on this process acts for the user who started it."""
    from storage.audit import Actor, act_as

    try:
        user = getpass.getuser()
    except OSError:
        user = None  # a container's user id need have no name
    act_as(Actor("cli", user))
