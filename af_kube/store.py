"""The objects of one kind, as of the newest that anybody told of; read without a request."""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

Body = Mapping[str, Any]
"""An object as the API server sends it."""
V = TypeVar("V")
Index = Callable[[Body], Hashable | None]
"""Says under what else than its name an object is to be found; None: under nothing."""
REMEMBERED = 10_000
"""Objects of which is known that they have gone, so that a late answer does not bring one back."""


class Key(NamedTuple):
    """What an object is known by within its kind; the namespace is empty for what is in none."""

    namespace: str
    name: str


class Change(NamedTuple):
    """What has happened to an object; `body` is as it was when it was last seen, empty where none is kept."""

    key: Key
    uid: str
    body: Body
    gone: bool


class _Entry(NamedTuple):
    uid: str
    version: int
    kept: Any
    marks: tuple[Hashable | None, ...]


Listener = Callable[[Change], None]


def key_of(body: Body) -> Key:
    """Return namespace and name of an object."""
    metadata = body["metadata"]
    return Key(sys.intern(metadata.get("namespace", "")), metadata["name"])


def version_of(body: Body) -> int:
    """Return the resource version: an ordered number, by Kubernetes' own word since 1.35."""
    return int(body["metadata"]["resourceVersion"])


def without_managed_fields(body: Body) -> Body:
    """Return an object without what says who wrote what: it is half of most."""
    metadata = {field: value for field, value in body["metadata"].items() if field != "managedFields"}
    return {**body, "metadata": metadata}


class Store(Generic[V]):
    """Objects of one kind.

    Parameters
    ----------
    keep
        Makes what is kept of an object.
    show
        Makes of that what ``get`` returns.
    indexes
        By name; see ``by``.
    """

    def __init__(
        self,
        keep: Callable[[Body], Any] = without_managed_fields,
        show: Callable[[Any], V] = lambda kept: kept,
        indexes: Mapping[str, Index] | None = None,
    ) -> None:
        self._keep, self._show = keep, show
        self._indexes = dict(indexes or {})
        self._entries: dict[Key, _Entry] = {}
        self._keys_by_mark: dict[str, dict[Hashable, dict[Key, None]]] = {name: {} for name in self._indexes}
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._whole: dict[str, int] = {}
        self._listeners: dict[Listener, None] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._entries))

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def get(self, key: Key) -> V | None:
        """Return an object, or None."""
        entry = self._entries.get(key)
        return None if entry is None else self._show(entry.kept)

    def uid(self, key: Key) -> str | None:
        """Return the uid of the object that has this name now."""
        entry = self._entries.get(key)
        return entry and entry.uid

    def version(self, key: Key) -> int:
        """Return the resource version of an object; 0 when there is none."""
        entry = self._entries.get(key)
        return entry.version if entry else 0

    def keys(self, index: str, mark: Hashable) -> list[Key]:
        """Return the keys of what is found under a mark."""
        return list(self._keys_by_mark[index].get(mark, ()))

    def by(self, index: str, mark: Hashable) -> Iterator[V]:
        """Yield the objects that are found under a mark."""
        return (self._show(self._entries[key].kept) for key in self.keys(index, mark))

    def counts(self, index: str) -> dict[Hashable, int]:
        """Return how many objects there are under each mark."""
        return {mark: len(keys) for mark, keys in self._keys_by_mark[index].items()}

    def put(self, body: Body) -> bool:
        """Take an object over, by whatever way it was heard of; return whether that was news."""
        key, version, uid = key_of(body), version_of(body), sys.intern(body["metadata"]["uid"])
        entry = self._entries.get(key)
        if (entry.version if entry else self._whole_as_of(key)) >= version or self._gone.get(uid, -1) >= version:
            return False
        if entry is not None and entry.uid != uid:  # another has the name: this one went, and nobody said so
            self.drop(key, entry.uid, entry.version)
            entry = None
        marks = tuple(index(body) for index in self._indexes.values())
        self._entries[key] = _Entry(uid, version, self._keep(body), marks)
        self._mark(key, entry.marks if entry else None, marks)
        self._notify(Change(key, uid, body, gone=False))
        return True

    def drop(self, key: Key, uid: str, version: int) -> bool:
        """Take out what is gone as of `version`, unless another has its name by now; return whether it was there."""
        self._bury(uid, version)
        entry = self._entries.get(key)
        if entry is None or entry.uid != uid or entry.version > version:
            return False
        self._take_out(key, entry)
        return True

    def forget(self, body: Body) -> None:
        """Take out this very object, which a request of ours has found gone."""
        entry = self._entries.get(key_of(body))
        if entry is not None and entry.uid == body["metadata"]["uid"]:
            self.drop(key_of(body), entry.uid, entry.version)

    def settle(self, namespace: str, listed: Collection[Key], version: int) -> None:
        """Take note that a list of a namespace (of all, if it is empty) has been put in as it was at `version`.

        What is older and not in it has gone.
        """
        for key, entry in list(self._entries.items()):
            if key not in listed and namespace in ("", key.namespace):
                # It leaves what is newer than the list: a request of ours has put that in since.
                self.drop(key, entry.uid, version)
        self._whole[namespace] = version

    def rewind(self) -> None:
        """Take whatever comes next as news: the server's history has gone back, as when a backup was restored."""
        self._entries = {key: entry._replace(version=-1) for key, entry in self._entries.items()}
        self._gone.clear()
        self._whole.clear()

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every change from now on, until ``ignore``."""
        self._listeners[listener] = None

    def ignore(self, listener: Listener) -> None:
        """Call it no more."""
        self._listeners.pop(listener, None)

    async def changed(self, seconds: float) -> None:
        """Wait until something changes, at most so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def stir(self) -> None:
        """Wake those who wait for a change, though it is none of an object."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _whole_as_of(self, key: Key) -> int:
        """Return up to which version everything there was is here: an older answer that comes late is of the past."""
        return max(self._whole.get("", -1), self._whole.get(key.namespace, -1))

    def _bury(self, uid: str, version: int) -> None:
        self._gone[uid] = max(version, self._gone.get(uid, 0))
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)

    def _take_out(self, key: Key, entry: _Entry) -> None:
        shown = self._show(entry.kept)
        del self._entries[key]
        self._mark(key, entry.marks, None)
        self._notify(Change(key, entry.uid, shown if isinstance(shown, Mapping) else {}, gone=True))

    def _mark(
        self, key: Key, before: tuple[Hashable | None, ...] | None, after: tuple[Hashable | None, ...] | None
    ) -> None:
        if before == after:
            return
        no_marks = (None,) * len(self._indexes)
        for keys_by_mark, old_mark, new_mark in zip(
            self._keys_by_mark.values(), before or no_marks, after or no_marks, strict=True
        ):
            if old_mark is not None and old_mark != new_mark:
                del keys_by_mark[old_mark][key]
                if not keys_by_mark[old_mark]:
                    del keys_by_mark[old_mark]
            if new_mark is not None and old_mark != new_mark:
                keys_by_mark.setdefault(new_mark, {})[key] = None

    def _notify(self, change: Change) -> None:
        for listener in list(self._listeners):
            listener(change)
        self.stir()
