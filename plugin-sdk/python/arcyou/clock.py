"""The time of day. Needs grants = ["clock"] in plugins.toml. The module time knows none here."""

from wit_world.imports import clock as _wire


def now_ms():
    """Milliseconds since 1970 began, by the gateway's clock, which may be set back."""
    return _wire.now_ms()
