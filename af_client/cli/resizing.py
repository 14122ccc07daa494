"""After a pool was given another size: what somebody waits for, and what they are told. Pure: statuses in, text out."""

from __future__ import annotations

from dataclasses import dataclass

from af_client.errors import NotAccepted
from af_client.model import Session
from af_client.pools import PoolRef


@dataclass(frozen=True)
class Resize:
    """A pool with its new size: exactly `least` workers, or as its tasks ask up to `most`."""

    pool: PoolRef
    least: int
    most: int

    def __str__(self) -> str:
        if self.pool.replicas:
            return f"{self.pool}: {self.least} replicas"
        if self.least == self.most:
            return f"pool {self.pool}: {self.least} workers"
        return f"pool {self.pool}: {self.least} to {self.most} workers, as its tasks ask"

    def over(self, session: Session) -> bool:
        """Return whether nothing more is to come: the pool has its size, or will not get it as things are."""
        if session.suspended or session.ended or self._refusal(session):
            return True
        pools = (p for p in session.pools if (p.component, p.name) == (self.pool.component, self.pool.name))
        return any(self.least <= p.desired <= self.most and p.ready == p.desired for p in pools)

    def result(self, session: Session) -> str:
        """Return what has come of it.

        Raises
        ------
        NotAccepted
            The profile does not allow it.
        """
        refusal = self._refusal(session)
        if refusal:
            raise NotAccepted(f"{refusal}; the session's workers stay as they are until that is put right")
        if session.suspended:
            return f"{self}, as soon as it is resumed: `af resume {session.name}`"
        return f"{self}; the session has ended" if session.ended else str(self)

    def _refusal(self, session: Session) -> str:
        accepted = session.condition("Accepted")
        return accepted.message if accepted and accepted.status is False else ""
