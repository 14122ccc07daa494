"""The one token of a session, as HTTP's and gRPC's clients send it."""

from __future__ import annotations

import base64
import binascii
import hmac
from pathlib import Path

from af_inference.errors import Unauthorized
from af_inference.settings import InvalidSettings

WORDS = "send the session's token: 'Authorization: Bearer <token>' (in a session: $AF_INFERENCE_TOKEN)"
_BEARER, _BASIC = b"bearer ", b"basic "


class Token:
    """What an ``authorization`` must carry: as Bearer, or as the password of Basic, whoever the user is."""

    def __init__(self, token: bytes) -> None:
        if not token:
            raise InvalidSettings("the token is empty: nobody could be told from anybody")
        self._token = token
        self._usual = _BEARER.title() + token

    @classmethod
    def read(cls, file: Path) -> Token:
        """Return the token in a file."""
        return cls(file.read_bytes().strip())

    def check(self, authorization: bytes | None) -> None:
        """Let the right token pass.

        Raises
        ------
        Unauthorized
            There is none, or another one.
        """
        if authorization is None or not self._matches(authorization):
            raise Unauthorized(WORDS)

    def _matches(self, authorization: bytes) -> bool:
        if hmac.compare_digest(authorization, self._usual):
            return True
        if authorization[: len(_BASIC)].lower() == _BASIC:
            return hmac.compare_digest(_password(authorization[len(_BASIC) :]), self._token)
        bearer = authorization[: len(_BEARER)].lower() == _BEARER
        return bearer and hmac.compare_digest(authorization[len(_BEARER) :].strip(), self._token)


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
