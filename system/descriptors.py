"""How many files and sockets this process may have open."""

import resource


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the limit to `wanted` as far as the system lets this process; what it is then. Never lowers it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return wanted if soft == unlimited else soft
    allowed = wanted if hard == unlimited else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        # macOS says that there is no limit and has one.
        return soft
    return allowed
