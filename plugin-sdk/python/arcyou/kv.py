"""What a plugin remembers beyond an instance: values with a time to live, which all gateways share. Needs
grants = ["kv"] in plugins.toml; [plugin.kv] sets quotas. Other plugins have keys of their own.

A call that fails raises a KvError, whose `code` is "unavailable", "quota", "too-large" or "not-a-number". In the
constructor of a plugin every call is unavailable.
"""

from componentize_py_types import Err as _Err
from wit_world.imports import kv as _wire


class KvError(Exception):
    def __init__(self, code):
        super().__init__(f"kv: {code}")
        self.code = code


def _asking(call, *arguments):
    try:
        return call(*arguments)
    except _Err as failed:
        raise KvError(failed.value.name.lower().replace("_", "-")) from None


def get(key):
    """The value of a key, as bytes, or None if it was never set or has expired."""
    return _asking(_wire.get, key)


def set(key, value, ttl_ms):
    """Sets a key to bytes, for 1 ms to 30 days."""
    _asking(_wire.set, key, value, ttl_ms)


def delete(key):
    """Removes a key. Returns whether it was there."""
    return _asking(_wire.delete, key)


def increment(key, by, ttl_ms):
    """Adds a whole number in one step that no other call can come between, and returns the sum. A key that is not there
    counts as zero and lives for `ttl_ms`; one that is there keeps its time to live.
    """
    return _asking(_wire.increment, key, by, ttl_ms)
