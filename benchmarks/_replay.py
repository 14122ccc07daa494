"""Caches of whole files, replayed: who is let in, who must go, and what that costs."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._access_log import Log

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Span:
    """A part of a log: replayed from `begin` on, with an empty cache, and counted from `counted` to `end`."""

    begin: int
    counted: int
    end: int


@dataclass(frozen=True)
class Score:
    """What came of a replay: hits as shares of opens and of bytes, and bytes."""

    hit_rate: float
    byte_hit_rate: float
    from_origin: float
    written: float


class Counts:
    """Adds up what is counted."""

    def __init__(self, log: Log, span: Span) -> None:
        self._log, self._span = log, span
        self._hits, self._hit_bytes, self._written = 0, 0.0, 0.0

    def hit(self, number: int, size: float) -> None:
        """Count an open of what was in the cache."""
        if number >= self._span.counted:
            self._hits += 1
            self._hit_bytes += size

    def write(self, number: int, size: float) -> None:
        """Count a file that is kept."""
        if number >= self._span.counted:
            self._written += size

    def score(self) -> Score:
        """Return the shares and sums."""
        return score(self._log, self._span, self._hits, self._hit_bytes, self._written)


def score(log: Log, span: Span, hits: float, hit_bytes: float, written: float) -> Score:
    """Return what so many hits are in a span."""
    total = float(log.bytes[span.counted : span.end].sum())
    return Score(hits / (span.end - span.counted), hit_bytes / total, total - hit_bytes, written)


def lru(log: Log, span: Span, capacity: float, admitted: Array) -> Score:
    """Replay a cache that lets in what is `admitted` at its open, and from which goes what was not used for longest."""
    kept, used, counts = OrderedDict[int, float](), 0.0, Counts(log, span)
    files, sizes, let_in = log.files.tolist(), log.bytes.tolist(), admitted.tolist()
    for number in range(span.begin, span.end):
        file, size = files[number], sizes[number]
        if file in kept:
            kept.move_to_end(file)
            counts.hit(number, size)
        elif let_in[number]:
            kept[file] = size
            used += size
            counts.write(number, size)
            while used > capacity:
                used -= kept.popitem(last=False)[1]
    return counts.score()


def ppc(log: Log, span: Span, capacity: float, popular: Mapping[int, frozenset[int]]) -> Score:
    """Replay popularity prediction caching: all is let in, and of what goes, data sets said to be popular go last.

    Parameters
    ----------
    popular
        By the number of a week, the data sets that are said to be popular in it.
    """
    common, precious = OrderedDict[int, float](), OrderedDict[int, float]()
    used, week, counts = 0.0, -1, Counts(log, span)
    weeks = log.weekly["week"].tolist()
    last: dict[int, int] = {}
    dataset_of = dict(zip(log.files.tolist(), log.datasets.tolist(), strict=True))
    files, sizes = log.files.tolist(), log.bytes.tolist()
    for number in range(span.begin, span.end):
        if weeks[number] != week:
            week = weeks[number]
            everything = sorted((common | precious).items(), key=lambda item: last[item[0]])
            common, precious = OrderedDict(), OrderedDict()
            for file, size in everything:
                (precious if dataset_of[file] in popular[week] else common)[file] = size
        file, size = files[number], sizes[number]
        last[file] = number
        kept = precious if dataset_of[file] in popular[week] else common
        if file in kept:
            kept.move_to_end(file)
            counts.hit(number, size)
            continue
        kept[file] = size
        used += size
        counts.write(number, size)
        while used > capacity:
            used -= (common or precious).popitem(last=False)[1]
    return counts.score()


def belady(log: Log, span: Span, capacity: float) -> Score:
    """Replay a cache that knows the future: out goes, or does not come in, what is used again last.

    For files of one size nothing is better; for those of several it is a way that can be gone, and so a lower bound.
    """
    kept, farthest, used, counts = dict[int, int](), list[tuple[int, int]](), 0.0, Counts(log, span)
    files, sizes, following = log.files.tolist(), log.bytes.tolist(), log.following.tolist()
    for number in range(span.begin, span.end):
        file, size, again = files[number], sizes[number], following[number]
        if file in kept:
            counts.hit(number, size)
            used -= size
            del kept[file]
            new = 0.0
        else:
            new = size
        if again >= span.end:
            continue
        kept[file] = again
        used += size
        heapq.heappush(farthest, (-again, file))
        while used > capacity:
            when, goes = heapq.heappop(farthest)
            if kept.get(goes) == -when:
                used -= float(log.sizes[goes])
                del kept[goes]
        if file in kept and new:
            counts.write(number, new)
    return counts.score()


def bound(log: Log, span: Span, capacity: float) -> Score:
    """Return what no cache can surpass, whatever it knows (PFOO-U: Berger, Beckmann, Harchol-Balter, 2018).

    To hit an open a file must have been held since the one before it: its size, for so many opens. All that a cache of
    this capacity can hold in all is spent on those that cost least, as if they could be fitted together at will.
    """
    number = np.arange(span.begin, span.end)
    again = log.following[span.begin : span.end]
    chosen = (again >= span.counted) & (again < span.end)
    held = (again - np.maximum(number, span.counted))[chosen]
    sizes = log.bytes[span.begin : span.end][chosen]
    budget = capacity * (span.end - span.counted)
    hits, hit_bytes = (_most(sizes * held, worth, budget) for worth in (np.ones(len(sizes)), sizes))
    return score(log, span, hits, hit_bytes, float("nan"))


def _most(costs: Array, worth: Array, budget: float) -> float:
    """Return the most worth that a budget buys, the last piece of it perhaps in part."""
    order = np.argsort(costs / worth, kind="stable")
    spent = np.cumsum(costs[order])
    whole = int(np.searchsorted(spent, budget, side="right"))
    bought = float(worth[order][:whole].sum())
    if whole < len(order):
        left = budget - (spent[whole - 1] if whole else 0.0)
        bought += float(worth[order][whole] * left / costs[order][whole])
    return bought
