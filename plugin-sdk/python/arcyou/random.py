"""Numbers that nobody can guess. Needs grants = ["random"] in plugins.toml. Python's own module random is no source of
any: it starts the same way in each instance.
"""

from wit_world.imports import random as _wire


def token(length):
    """So many random bytes, at most 64 KiB."""
    return _wire.bytes(length)


def number():
    """A random number from 0 to 1, without 1."""
    return (_wire.number() >> 11) / (1 << 53)
