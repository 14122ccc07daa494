"""What a process keeps in mind of sessions between their passes: it saves requests, and is lost with the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from af_operator import names, quota
from af_operator.model import Body, Key, Manifest, ObjectRef, Plan, Refusal

REFUSED_RETRY = timedelta(seconds=30)
"""Most of what refuses sends us no event when it does so no more."""


@dataclass(frozen=True)
class Remembered:
    """What was refused, and until when asking again would only cost requests."""

    refusal: Refusal
    applied_hash: str
    until: datetime


@dataclass(frozen=True)
class Looked:
    """What was there when the pass looked, and until when that is believed; None: as long as anybody asks for it."""

    body: Body | None
    until: datetime | None = None


class Memory:
    """Of all sessions."""

    def __init__(self) -> None:
        self._refused: dict[Key, dict[ObjectRef | str, Remembered]] = {}
        self._looked: dict[Key, dict[ObjectRef, Looked]] = {}
        self._tried: dict[Key, dict[ObjectRef, datetime]] = {}
        self._promised: dict[str, dict[Key, Mapping[str, Decimal]]] = {}

    def forget(self, key: Key) -> None:
        """Forget a session that is gone."""
        self._refused.pop(key, None)
        self._looked.pop(key, None)
        self._tried.pop(key, None)
        self.promise(key, {})

    def next_retry(self, key: Key, now: datetime) -> datetime | None:
        """Return when something is to be asked again: from when it was refused, else each pass would put it off."""
        refused = (each.until for each in self._refused.get(key, {}).values())
        looked = (each.until for each in self._looked.get(key, {}).values() if each.until)
        return min((until for until in (*refused, *looked) if now < until), default=None)

    # What was refused.

    def refused(self, key: Key, now: datetime) -> dict[str, Refusal]:
        """Return what is not asked again yet: by batch, or by kind and name."""
        refused = self._refused.get(key, {}).items()
        named = ((what if isinstance(what, str) else f"{what.kind} {what.name}", each) for what, each in refused)
        return {what: each.refusal for what, each in named if now < each.until}

    def refusal_of(self, key: Key, manifest: Manifest, now: datetime) -> Refusal | None:
        """Return why this very manifest is not asked for again yet."""
        earlier = self._refused.get(key, {}).get(manifest.ref)
        return (
            earlier.refusal if earlier and earlier.applied_hash == _digest(manifest) and now < earlier.until else None
        )

    def refuse(self, key: Key, manifest: Manifest, refusal: Refusal, now: datetime) -> None:
        """Remember that a manifest was refused, and with it its batch."""
        remembered = Remembered(refusal, _digest(manifest), now + REFUSED_RETRY)
        self._refused.setdefault(key, {})[manifest.batch or manifest.ref] = remembered

    def take(self, key: Key, manifest: Manifest) -> None:
        """Forget that a manifest, or its batch, was ever refused: it no longer is."""
        self._refused.get(key, {}).pop(manifest.batch or manifest.ref, None)

    def let_go(self, key: Key) -> None:
        """Forget all that was refused: the session asks for nothing for a while."""
        self._refused.pop(key, None)

    def is_to_try(self, key: Key, manifest: Manifest, now: datetime) -> bool:
        """Return whether to ask what the API server says of a pod, which was not asked for a while: and remember it."""
        of_session = self._tried.setdefault(key, {})
        lately = manifest.ref in of_session and now < of_session[manifest.ref] + REFUSED_RETRY
        if not lately:
            of_session[manifest.ref] = now
        return not lately

    # What was looked at.

    def read(self, key: Key, now: datetime) -> dict[ObjectRef, Body | None]:
        """Return what was there when a pass looked, as long as it is believed."""
        looked = self._looked.get(key, {}).items()
        return {ref: each.body for ref, each in looked if each.until is None or now < each.until}

    def believe(self, key: Key, read: Mapping[ObjectRef, Body | None], todo: Plan, now: datetime) -> None:
        """Keep what was looked at while the plan asks for it; what is missing, or does not fit, is soon read again."""
        earlier, soon = self._looked.pop(key, {}), now + REFUSED_RETRY
        asked = {ref: body for ref, body in read.items() if ref in todo.lent}
        if asked:
            again = {ref: ref in todo.held or body is None for ref, body in asked.items()}
            until = {ref: earlier[ref].until if ref in earlier else soon for ref in asked if again[ref]}
            self._looked[key] = {ref: Looked(body, until.get(ref)) for ref, body in asked.items()}

    # What is about to be made.

    def promised(self, key: Key) -> dict[str, Decimal]:
        """Return what other sessions of the namespace are about to make, as quotas count it."""
        of_others = (each for other, each in self._promised.get(key.namespace, {}).items() if other != key)
        return quota.together(of_others)

    def promise(self, key: Key, amounts: Mapping[str, Decimal]) -> None:
        """Remember what a session is about to make, until that is there; nothing, if it makes nothing more."""
        of_namespace = self._promised.setdefault(key.namespace, {})
        of_namespace.pop(key, None)
        if any(amounts.values()):
            of_namespace[key] = amounts
        elif not of_namespace:
            del self._promised[key.namespace]


def _digest(manifest: Manifest) -> str:
    return str(manifest.body["metadata"]["annotations"][names.APPLIED_HASH])
