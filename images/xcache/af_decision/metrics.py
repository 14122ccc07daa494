"""What came of it, as Prometheus reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .policy import BUCKETS, Policy


def text(policy: Policy) -> str:
    """Return the counters in Prometheus' text format."""
    return "\n".join(_lines(policy)) + "\n"


def _lines(policy: Policy) -> Iterator[str]:
    yield "# HELP xcache_opens_total Files opened, by way and by the reason for it."
    yield "# TYPE xcache_opens_total counter"
    for (way, reason), count in policy.counts.items():
        yield f'xcache_opens_total{{way="{way}",reason="{reason}"}} {count}'
    name, total = "xcache_decision_seconds", 0
    yield f"# HELP {name} Time that an open of a file that is not on disk waited for a decision."
    yield f"# TYPE {name} histogram"
    for bound in BUCKETS:
        total += policy.latencies[bound]
        yield f'{name}_bucket{{le="{bound}"}} {total}'
    total += policy.latencies[math.inf]
    yield from (f'{name}_bucket{{le="+Inf"}} {total}', f"{name}_sum {policy.seconds:.6f}", f"{name}_count {total}")
