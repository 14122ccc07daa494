"""The keyed work queue: which session (or profile) is looked at next.

Guarantees: a key waits at most once; one pass per session at a time, and a key that is added during its
pass runs again after it; namespaces take turns, so that one tenant's thousand sessions do not delay
another's one; what has changed goes before what is only looked at again; delays and backoff belong to the key.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

from af_operator.model import Key

FIRST_BACKOFF = 0.5
MAX_BACKOFF = 120.0


class _Lane:
    """Keys of one urgency; namespaces take turns."""

    def __init__(self) -> None:
        self._ready: dict[str, dict[Key, None]] = {}
        self._turns: deque[str] = deque()

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._ready.values())

    def __contains__(self, key: Key) -> bool:
        return key in self._ready.get(key.namespace, ())

    def __bool__(self) -> bool:
        return bool(self._ready)

    def add(self, key: Key) -> None:
        """Put a key at the end of its namespace's."""
        if key.namespace not in self._ready:
            self._ready[key.namespace] = {}
            self._turns.append(key.namespace)
        self._ready[key.namespace][key] = None

    def pop(self) -> Key:
        """Take out the next key, of the namespace whose turn it is."""
        namespace = self._turns.popleft()
        keys = self._ready[namespace]
        key = next(iter(keys))
        del keys[key]
        if keys:
            self._turns.append(namespace)
        else:
            del self._ready[namespace]
        return key

    def discard(self, key: Key) -> None:
        """Take out this key, if it is there."""
        keys = self._ready.get(key.namespace, {})
        if key in keys:
            del keys[key]
            if not keys:
                del self._ready[key.namespace]
                self._turns.remove(key.namespace)


class WorkQueue:
    """Keys to look at. Not thread-safe: one event loop."""

    def __init__(self) -> None:
        self._changed, self._again_only = _Lane(), _Lane()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._faults: dict[Key, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._changed) + len(self._again_only)

    def add(self, key: Key, after: float = 0.0, *, later: bool = False) -> None:
        """Ask for a pass over `key` in `after` seconds at the latest; the earliest of several asks counts.

        `later`: nothing is known to have changed, so all that has goes first.
        """
        if after <= 0:
            self._cancel_timer(key)
            self._make_ready(key, later=later)
            return
        loop = asyncio.get_running_loop()
        if key in self._timers and self._timers[key].when() <= loop.time() + after:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(after, self.add, key)

    async def get(self) -> Key:
        """Return the next key, of the namespace whose turn it is; ``done`` must follow."""
        while not (self._changed or self._again_only):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and len(self):  # woken, then cancelled: the key is somebody else's to take
                    self._wake_one()
                raise
        key = (self._changed or self._again_only).pop()
        self._active.add(key)
        return key

    def done(self, key: Key) -> None:
        """End the pass over `key`; if it was added meanwhile, it is ready again."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self._make_ready(key)

    def failed(self, key: Key, at_least: float = 0.0, *, fault: bool = False) -> float:
        """Schedule a key again after a failure and return the delay: exponential, with jitter.

        `fault`: it was none of the API server's, so it is counted beside the others.
        """
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._faults[key] = self.faults(key) + fault
        ceiling = min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures - 1, 16))
        delay = max(at_least, ceiling * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        self.add(key, delay)
        return delay

    def faults(self, key: Key) -> int:
        """Return how many faults the passes over `key` have met since one succeeded."""
        return self._faults.get(key, 0)

    def succeeded(self, key: Key) -> None:
        """Forget the failures of `key`."""
        self._failures.pop(key, None)
        self._faults.pop(key, None)

    def _make_ready(self, key: Key, *, later: bool = False) -> None:
        if key in self._active:
            self._again.add(key)
            return
        if not later:
            self._again_only.discard(key)
            self._changed.add(key)
        elif key not in self._changed:
            self._again_only.add(key)
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
