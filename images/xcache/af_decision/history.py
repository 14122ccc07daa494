"""What a cache can know of a file when it is opened, as the numbers that a model is asked with. Pure: time is given.

As in the popularity example, it is how often and how lately the data set was read, its tier and its age. Users and CPU
time are not known here, but single files are. Counts are decayed exponentially (as in Learning Relaxed Belady, NSDI
2020): one number for each length of time, however many accesses there were.
"""

from __future__ import annotations

import math
import posixpath
from collections import OrderedDict
from dataclasses import dataclass, field

HOUR, DAY = 3600.0, 86400.0
DECAYS = {"1h": HOUR, "1d": DAY, "7d": 7 * DAY, "28d": 28 * DAY, "91d": 91 * DAY}
"""Seconds in which an access comes to count 1/e: the example's windows of 1, 4 and 13 weeks, and shorter ones."""
TIERS = ("USER", "AODSIM", "MINIAODSIM", "AOD", "MINIAOD")
"""As in the example. Of what is none of them, all features of the tier are 0, as for the first."""
NEVER = 3650 * DAY
MOST_FILES, MOST_DATASETS = 100_000, 10_000
"""Of which something is remembered. Those not seen for longest are forgotten, as if they were new."""

FEATURES = (
    *(f"file_accesses_{name}" for name in DECAYS),
    *(f"dataset_accesses_{name}" for name in DECAYS),
    "file_idle",
    "dataset_idle",
    "dataset_age",
    "dataset_files",
    *(f"is_{tier.lower()}" for tier in TIERS[1:]),
)


@dataclass(slots=True)
class Seen:
    """What is remembered of a file or a data set."""

    first: float
    last: float
    counts: list[float] = field(default_factory=lambda: [0.0] * len(DECAYS))
    files: int = 0

    def counts_at(self, now: float) -> list[float]:
        """Return the decayed numbers of accesses, one for each of `DECAYS`."""
        since = max(now - self.last, 0.0)
        return [count * math.exp(-since / decay) for count, decay in zip(self.counts, DECAYS.values(), strict=True)]

    def add(self, now: float) -> None:
        """Count an access."""
        self.counts = [count + 1 for count in self.counts_at(now)]
        self.last = now


class History:
    """All accesses so far, in bounded memory."""

    def __init__(self, files: int = MOST_FILES, datasets: int = MOST_DATASETS) -> None:
        self._files: OrderedDict[str, Seen] = OrderedDict()
        self._datasets: OrderedDict[str, Seen] = OrderedDict()
        self._most_files, self._most_datasets = files, datasets

    def opened(self, path: str, now: float) -> list[float]:
        """Return the features of a file that is opened, from what was before; then remember that it was.

        Parameters
        ----------
        path
            As the origin knows the file.
        now
            Seconds of any clock.

        Returns
        -------
        list of float
            In the order of `FEATURES`. Counts and times (in seconds) are logarithms: ln(1 + x).
        """
        name, tier = dataset_of(path)
        file, dataset = self._files.get(path), self._datasets.get(name)
        values = _features(file, dataset, now) + [float(tier == each) for each in TIERS[1:]]
        if file is None:
            file = _remember(self._files, path, now, self._most_files)
            dataset = dataset or _remember(self._datasets, name, now, self._most_datasets)
            dataset.files += 1
        # The data set may have been forgotten while its file was not.
        dataset = dataset or _remember(self._datasets, name, now, self._most_datasets)
        for seen in (file, dataset):
            seen.add(now)
        self._files.move_to_end(path)
        self._datasets.move_to_end(name)
        return values


def dataset_of(path: str) -> tuple[str, str]:
    """Return the data set that a file belongs to, and its tier: empty where its path names none.

    In CMS' name space the tier stands in the path, with numbers of blocks below it; elsewhere a data set is a
    directory.
    """
    parts = path.split("/")
    for place, part in enumerate(parts[:-1]):
        if part in TIERS:
            return "/".join(parts[: place + 1]), part
    return posixpath.dirname(path), ""


def _features(file: Seen | None, dataset: Seen | None, now: float) -> list[float]:
    values = [seen.counts_at(now) if seen else [0.0] * len(DECAYS) for seen in (file, dataset)]
    idle = [now - seen.last if seen else NEVER for seen in (file, dataset)]
    age, files = (now - dataset.first, dataset.files) if dataset else (0.0, 0)
    return [math.log1p(max(value, 0.0)) for value in (*values[0], *values[1], *idle, age, files)]


def _remember(table: OrderedDict[str, Seen], key: str, now: float, most: int) -> Seen:
    if len(table) >= most:
        table.popitem(last=False)
    seen = table[key] = Seen(first=now, last=now)
    return seen
