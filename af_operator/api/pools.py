"""Pools of workers, whatever computes in them: Dask's and Spark's alike."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from af_operator.api.common import ApiModel, Name, rule, rules


class Workers(ApiModel):
    """How many workers. The session is ready at `min`. Where `max` is more, the pool is elastic: as its tasks ask."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.min <= self.max", "min must not be larger than max; min is 1 where it is left out"),
        )
    )
    min: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="Workers that must be ready before the session counts as ready and the run starts.",
    )
    max: int = Field(ge=0, le=1000, description="Workers at most; as many as `min` is a pool of a fixed size.")


class Pool(ApiModel):
    """Workers of one shape on one node pool."""

    name: Name = Field(description="The pool's name, unique in the session.")
    node_pool: Name = Field(description="A node pool of the profile.")
    size: Name | None = Field(default=None, description="A size of the profile; the profile's default if left out.")
    workers: Workers
    gpus_per_worker: int = Field(
        default=0, ge=0, le=16, description="GPUs of the node pool's gpuResource for each worker."
    )

    threads_per_worker: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Tasks that a worker computes at once: threads of a Dask worker, cores of a Spark worker. 1 for "
        "code that is not safe in threads. The size's cpu, rounded up, if left out.",
    )
    memory_percent: int | None = Field(
        default=None,
        ge=10,
        le=95,
        description="Share of the size's memory that the engine counts as its own: for Dask what a worker may hold "
        "before it spills, pauses and starts again; for Spark the heaps of executors. The rest is left to libraries "
        "that take memory of their own. If left out 90 for Dask, and for Spark half of what its worker itself does not "
        "need.",
    )
