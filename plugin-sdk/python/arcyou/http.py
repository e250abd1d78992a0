"""Requests to the hosts that the operator lists. Needs grants = ["http"] and [plugin.http] with `hosts` in plugins.toml.

A request without a response raises an HttpError, whose `code` is "invalid", "not-allowed", "timeout", "too-large",
"quota" or "unavailable". In the constructor of a plugin every request is unavailable.
"""

from componentize_py_types import Err as _Err
from wit_world.imports import http as _wire


class HttpError(Exception):
    def __init__(self, code, text=None):
        super().__init__(f"http: {code}: {text}" if text else f"http: {code}")
        self.code = code


class Response:
    """A status, headers (a dict with names in lower case) and a body of bytes."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


_CODES = {
    "Error_Invalid": "invalid",
    "Error_NotAllowed": "not-allowed",
    "Error_Timeout": "timeout",
    "Error_TooLarge": "too-large",
    "Error_Quota": "quota",
    "Error_Unavailable": "unavailable",
}


def send(url, method="GET", headers=None, body=b""):
    """Sends a request and waits for the whole response."""
    listed = [_wire.Header(name, str(value)) for name, value in (headers or {}).items()]
    try:
        response = _wire.send(_wire.Request(method, url, listed, body))
    except _Err as failed:
        raise HttpError(_CODES[type(failed.value).__name__], getattr(failed.value, "value", None)) from None
    return Response(response.status, {header.name: header.value for header in response.headers}, response.body)
