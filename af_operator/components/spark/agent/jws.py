"""Who may see Spark's pages: a JSON web token (RFC 7519) that the session's key has signed. Pure.

Spark's filter asks for one (``org.apache.spark.ui.JWSFilter``), in master, workers and drivers alike.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json


def signed(key: str, **claims: int) -> str:
    """Return a token with these claims: ``exp``, Unix time from which on nobody takes it; without, it has no end.

    The key is given as to the filter, in base64 for URLs. Of 64 characters it has 384 bits, and the filter takes
    of a key's length how it signs.
    """
    parts = {"alg": "HS384"}, claims
    said = ".".join(_text(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{said}.{_text(hmac.digest(base64.urlsafe_b64decode(key), said.encode(), hashlib.sha384))}"


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
