"""What ends a session of `af run --rm` when `af` itself cannot: it was killed, or its machine is gone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from af_client.errors import ClientError
from af_client.model import Session
from af_client.sessions import Sessions

LEASE_SECONDS = 3600
"""So long a session outlives an `af` that says nothing more."""
RENEWAL_SECONDS = 600.0
TTL_SECONDS = 300
"""A session that has ended is deleted after this time: by then `af` has read its log, and deleted it itself."""


class Lifetime:
    """The lifetime of a session, put off again and again as long as this process lives.

    Nothing of what the session file says itself is changed, and no longer lifetime given than the profile allows.
    """

    def __init__(self, sessions: Sessions, body: Mapping[str, Any]) -> None:
        self._sessions = sessions
        self._ours = not body["spec"].get("lifetimeSeconds")
        self._began = self._renewed = time.monotonic()

    @staticmethod
    def bounded(body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the object to create with the bounds that it does not have itself."""
        spec = body["spec"]
        bounds = {"lifetimeSeconds": LEASE_SECONDS, "ttlSecondsAfterFinished": TTL_SECONDS}
        return {**body, "spec": {**spec, **{key: value for key, value in bounds.items() if spec.get(key) is None}}}

    def renew(self, session: Session) -> None:
        """Put the end off, if it is time to."""
        now = time.monotonic()
        if not self._ours or now - self._renewed < RENEWAL_SECONDS or session.ended:
            return
        self._renewed = now
        with suppress(ClientError):  # the next one may come through
            self._sessions.live_for(session.name, int(now - self._began) + LEASE_SECONDS)

    def refused(self, session: Session) -> bool:
        """Return whether the profile allows no such lifetime; then its own, which is shorter, is taken instead."""
        accepted = session.condition("Accepted")
        told = accepted.message if accepted and accepted.status is False else ""
        if not (self._ours and told.startswith("lifetimeSeconds ")):
            return False
        self._ours = False
        self._sessions.live_for(session.name, None)
        return True
