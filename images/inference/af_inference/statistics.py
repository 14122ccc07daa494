"""What one model has done, in Triton's terms: inferences are rows, executions are runs of the model."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(slots=True)
class Duration:
    """How often something happened, and how many nanoseconds it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Count it."""
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class Statistics:
    """Counts since the model was loaded.

    Attributes
    ----------
    last_inference
        Milliseconds since 1970; 0 for none yet.
    rows, runs
        Triton's inference_count and execution_count.
    success, fail
        Requests, from the queue to the result.
    queue, compute
        Waiting for the run; the run itself.
    batches
        Runs by their number of rows.
    """

    last_inference: int = 0
    rows: int = 0
    runs: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ran(self, rows: int, started: int, ended: int, queued: list[int]) -> None:
        """Count one run that answered, and the requests in it by when each came, all in nanoseconds of one clock."""
        with self._lock:
            self.last_inference = time.time_ns() // 1_000_000
            self.rows += rows
            self.runs += 1
            self.compute.add((ended - started) * len(queued), len(queued))
            self.batches[rows if rows < 1024 else 1 << (rows.bit_length() - 1)].add(ended - started)
            self.queue.add(started * len(queued) - sum(queued), len(queued))
            self.success.add(ended * len(queued) - sum(queued), len(queued))

    def failed(self, ns: int) -> None:
        """Count a request that failed after so many nanoseconds."""
        with self._lock:
            self.fail.add(ns)
