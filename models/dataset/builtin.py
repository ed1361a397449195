"""The names of datasets that every installation has without an upload. Knows no image."""

DIGITS = "builtin:digits"
# The folder in a worker's cache where they are made.
BUILTIN = "builtin"

NAMES = (DIGITS,)
