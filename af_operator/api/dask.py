"""A session's Dask: its scheduler, its pools, and which of Dask's configuration is the session's to say."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from af_operator.api.common import BY_NAME, ApiModel, Format, Name, Rule, rules, unchangeable
from af_operator.api.pools import Pool

DASK_PREFIXES = (
    "array.",
    "awkward.",
    "dataframe.",
    "optimization.",
    "tokenize.",
    "distributed.admin.large-graph-warning-threshold",
    "distributed.admin.log-length",
    "distributed.admin.low-level-log-length",
    "distributed.admin.max-error-length",
    "distributed.admin.system-monitor.",
    "distributed.admin.tick.",
    "distributed.client.direct-to-workers",
    "distributed.client.heartbeat",
    "distributed.client.scheduler-info-interval",
    "distributed.comm.compression",
    "distributed.comm.offload",
    "distributed.comm.retry.",
    "distributed.comm.shard",
    "distributed.comm.timeouts.",
    "distributed.comm.zstd.",
    "distributed.diagnostics.",
    "distributed.p2p.",
    "distributed.scheduler.active-memory-manager.",
    "distributed.scheduler.allowed-failures",
    "distributed.scheduler.bandwidth",
    "distributed.scheduler.default-data-size",
    "distributed.scheduler.default-task-durations.",
    "distributed.scheduler.events-cleanup-delay",
    "distributed.scheduler.locks.",
    "distributed.scheduler.no-workers-timeout",
    "distributed.scheduler.reuse-broadcast-comm",
    "distributed.scheduler.rootish-taskgroup",
    "distributed.scheduler.rootish-taskgroup-dependencies",
    "distributed.scheduler.unknown-task-duration",
    "distributed.scheduler.validate",
    "distributed.scheduler.work-stealing",
    "distributed.scheduler.work-stealing-interval",
    "distributed.scheduler.worker-saturation",
    "distributed.scheduler.worker-ttl",
    "distributed.worker.connections.",
    "distributed.worker.memory.",
    "distributed.worker.profile.",
    "distributed.worker.transfer.",
    "distributed.worker.validate",
)
"""What a session may set: how its tasks are computed, moved, kept and tried again; all below what ends with a dot.

Nothing here names a file, a module, a host or a port, and nothing ends a scheduler or a worker by itself: who may come
in, what is loaded at a start, what workers are called and how many there are is what the operator and its agent rely
on."""

DASK_KEY = r"^[a-z][a-z0-9]*([-.][a-z0-9]+)*$"
"""As Dask documents its keys. They travel as variables of the environment, in which '_' and '-' are the same."""

DaskValue = Annotated[
    str,
    Field(min_length=1, max_length=200, pattern=r"^[!-~]([ -~]*[!-~])?$"),
    Format("write the value as text in one line, such as '20', 'true', 30s or 128MiB"),
]


class DaskScheduler(ApiModel):
    """Where the scheduler runs, and what it may use."""

    size: Name | None = Field(
        default=None,
        description="A size of the profile. The scheduler holds the graph, and what it is asked for passes through it; "
        "the profile's default if left out.",
    )
    node_pool: Name | None = Field(
        default=None, description="A node pool of the profile; the profile's defaults.nodePool if left out."
    )


class Dask(ApiModel):
    """A Dask cluster: one scheduler, and pools of workers.

    In the session's pods `Client()` without arguments finds it.
    """

    # The scheduler that runs was started with them.
    model_config = ConfigDict(json_schema_extra=rules(unchangeable("scheduler"), unchangeable("config")))
    scheduler: DaskScheduler | None = Field(default=None, description="Immutable.")
    config: Annotated[
        dict[Annotated[str, Field(max_length=100)], DaskValue],
        Field(max_length=32),
        Rule(
            f"self.all(key, size(key) <= 100 && key.matches(r'{DASK_KEY}'))",
            "write a key as Dask documents it: lower-case words with '-' between them and '.' between levels, such as "
            "distributed.scheduler.allowed-failures",
        ),
        Rule(
            f"self.all(key, key in {[p for p in DASK_PREFIXES if not p.endswith('.')]} || "
            f"{[p for p in DASK_PREFIXES if p.endswith('.')]}.exists(prefix, key.startsWith(prefix)))",
            "of Dask's configuration these may be set, with all below what ends with a dot, and no others: "
            f"{', '.join(DASK_PREFIXES)}. Addresses, ports, preloads, TLS, dashboards, nannies and the end of workers "
            "are the session's own; temporary-directory is the worker's scratch",
        ),
        Rule(
            "self.all(key, !self.exists(other, other.startsWith(key + '.')))",
            "one key is the beginning of another: leave one of them out",
        ),
    ] = Field(
        default_factory=dict,
        description="Configuration of Dask by its dotted keys, for scheduler, workers, run and notebook alike, such as "
        "distributed.worker.memory.target: '0.7'. Values are text and become what Dask makes of them. Not checked for "
        "spelling: what Dask does not know it ignores. Immutable.",
    )
    pools: list[Pool] = Field(
        min_length=1,
        max_length=8,
        description="Pools of workers, each on one node pool; names are unique. Another shape of a pool (node pool, "
        "size, GPUs, threads, share of memory) replaces its workers.",
        json_schema_extra=BY_NAME,
    )
