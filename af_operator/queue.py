"""The keyed work queue: which session (or profile) is looked at next.

Guarantees: a key waits at most once; one pass per session at a time, and a key that is added during its
pass runs again after it; namespaces take turns, so that one tenant's thousand sessions do not delay
another's one; delays and backoff belong to the key.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

from af_operator.model import Key

FIRST_BACKOFF = 0.5
MAX_BACKOFF = 120.0


class WorkQueue:
    """Keys to look at. Not thread-safe: one event loop."""

    def __init__(self) -> None:
        self._ready: dict[str, dict[Key, None]] = {}
        self._turns: deque[str] = deque()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._ready.values())

    def add(self, key: Key, after: float = 0.0) -> None:
        """Ask for a pass over `key` in `after` seconds at the latest; the earliest of several asks counts."""
        if after <= 0:
            self._cancel_timer(key)
            self._make_ready(key)
            return
        loop = asyncio.get_running_loop()
        if key in self._timers and self._timers[key].when() <= loop.time() + after:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(after, self.add, key)

    async def get(self) -> Key:
        """Return the next key, of the namespace whose turn it is; ``done`` must follow."""
        while not self._turns:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and self._turns:  # woken, then cancelled: the key is somebody else's to take
                    self._wake_one()
                raise
        namespace = self._turns.popleft()
        keys = self._ready[namespace]
        key = next(iter(keys))
        del keys[key]
        if keys:
            self._turns.append(namespace)
        else:
            del self._ready[namespace]
        self._active.add(key)
        return key

    def done(self, key: Key) -> None:
        """End the pass over `key`; if it was added meanwhile, it is ready again."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self._make_ready(key)

    def failed(self, key: Key, at_least: float = 0.0) -> float:
        """Schedule a key again after a failure and return the delay: exponential, with jitter."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        ceiling = min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures - 1, 16))
        delay = max(at_least, ceiling * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        self.add(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        """Forget the failures of `key`."""
        self._failures.pop(key, None)

    def _make_ready(self, key: Key) -> None:
        if key in self._active:
            self._again.add(key)
            return
        keys = self._ready.get(key.namespace)
        if keys is None:
            keys = self._ready[key.namespace] = {}
            self._turns.append(key.namespace)
        keys[key] = None
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
