"""What Prometheus is told: latencies as requests are answered, the rest from the models' statistics when it asks."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from af_inference.registry import Registry
from af_inference.served import Served
from af_inference.statistics import Statistics

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)
_NAMES = 1000
Child = Histogram


class Metrics:
    """The process's metrics.

    Labels are bounded: a model that does not exist is counted under no name, and so are those beyond a thousand names.
    """

    def __init__(self, registry: Registry) -> None:
        self._collected = CollectorRegistry()
        self._requests = Histogram(
            "af_inference_request_seconds",
            "From a request's head to its answer.",
            ("protocol", "model", "status"),
            buckets=_SECONDS,
            registry=self._collected,
        )
        self._children: dict[tuple[str, str, int], Child] = {}
        self._names: set[str] = set()
        self._collected.register(_Models(registry))

    def observe(self, protocol: str, served: Served | None, status: int, seconds: float) -> None:
        """Count a request of a protocol: of which model, if there is one, with which HTTP status, how long it took."""
        name = served.model.name if served else ""
        child = self._children.get((protocol, name, status))
        if child is None:
            child = self._child(protocol, name, status)
        child.observe(seconds)

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self._collected)

    def _child(self, protocol: str, name: str, status: int) -> Child:
        label = name if name in self._names or len(self._names) < _NAMES else ""
        self._names.add(label)
        child = self._requests.labels(protocol, label, str(status))
        self._children[protocol, label, status] = child
        return child


class _Models(Collector):
    """Statistics of the models that are loaded; they begin anew when one is loaded again, as counters may."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        served = self._registry.all_loaded()
        loaded = GaugeMetricFamily("af_inference_models_loaded", "Versions of models that are loaded.", len(served))
        yield loaded
        yield from _sums(served)
        labels = ("model", "version")
        waiting = GaugeMetricFamily("af_inference_queue_requests", "Requests that wait.", labels=labels)
        running = GaugeMetricFamily("af_inference_running", "Runs that are under way.", labels=labels)
        provider = GaugeMetricFamily(
            "af_inference_model_info", "On what it runs.", labels=(*labels, "provider", "batched")
        )
        rows = HistogramMetricFamily("af_inference_batch_rows", "Rows of one run of a model.", labels=labels)
        for each in served:
            waiting.add_metric(_key(each), each.batcher.waiting)
            running.add_metric(_key(each), each.batcher.running)
            provider.add_metric((*_key(each), each.model.provider, str(each.batched).lower()), 1)
            rows.add_metric(_key(each), *_buckets(each))
        yield from (waiting, running, provider, rows)


def _sums(served: list[Served]) -> Iterator[Metric]:
    sums: dict[str, tuple[str, Callable[[Statistics], float]]] = {
        "rows": ("Rows that were answered.", lambda each: each.rows),
        "runs": ("Runs of the model.", lambda each: each.runs),
        "queue_seconds": ("Time that requests waited for their run.", lambda each: each.queue.ns / 1e9),
        "compute_seconds": ("Time of runs.", lambda each: sum(d.ns for d in list(each.batches.values())) / 1e9),
    }
    for name, (text, value) in sums.items():
        family = CounterMetricFamily(f"af_inference_{name}", text, labels=("model", "version"))
        for each in served:
            family.add_metric(_key(each), value(each.statistics))
        yield family


def _key(served: Served) -> tuple[str, str]:
    return served.model.name, served.model.version


def _buckets(served: Served) -> tuple[list[tuple[str, float]], float]:
    counts = [0] * (len(_ROWS) + 1)
    for rows, runs in list(served.statistics.batches.items()):
        counts[bisect.bisect_left(_ROWS, rows)] += runs.count
    ends = [*(str(float(rows)) for rows in _ROWS), "+Inf"]
    return [(end, float(sum(counts[: at + 1]))) for at, end in enumerate(ends)], float(served.statistics.rows)
