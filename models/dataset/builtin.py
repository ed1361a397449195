"""The names of datasets that every installation has without an upload. Knows no image."""

DIGITS = "builtin:digits"

NAMES = (DIGITS,)
