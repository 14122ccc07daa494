"""A session's Spark: its Connect server, its pools, and which of Spark's options are the session's to say."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from af_operator.api.common import BY_NAME, ApiModel, Format, Name, Rule, rules, unchangeable
from af_operator.api.pools import Pool

SPARK_OPTIONS = (
    "spark.default.parallelism",
    "spark.driver.maxResultSize",
    "spark.dynamicAllocation.cachedExecutorIdleTimeout",
    "spark.dynamicAllocation.executorIdleTimeout",
    "spark.locality.wait",
    "spark.memory.fraction",
    "spark.memory.storageFraction",
    "spark.network.timeout",
    "spark.python.worker.reuse",
    "spark.rdd.compress",
    "spark.shuffle.compress",
    "spark.speculation",
    "spark.sql.adaptive.coalescePartitions.enabled",
    "spark.sql.adaptive.enabled",
    "spark.sql.adaptive.skewJoin.enabled",
    "spark.sql.ansi.enabled",
    "spark.sql.autoBroadcastJoinThreshold",
    "spark.sql.execution.arrow.maxRecordsPerBatch",
    "spark.sql.execution.pythonUDF.arrow.enabled",
    "spark.sql.files.maxPartitionBytes",
    "spark.sql.parquet.compression.codec",
    "spark.sql.parquet.filterPushdown",
    "spark.sql.session.timeZone",
    "spark.sql.shuffle.partitions",
    "spark.sql.sources.partitionOverwriteMode",
    "spark.task.maxFailures",
)
"""What a session may set: how its queries run. Nothing here names a file, a class, a host, a program or a command line
of Java, and nothing says who may come in: with such an option the engine would load or open what a session says."""

SparkOption = Annotated[str, Field(max_length=100)]
SparkValue = Annotated[
    str,
    # Written into a file of Java properties, where a backslash, a line break or a space at the end means something.
    Field(min_length=1, max_length=100, pattern=r"^[-A-Za-z0-9._:/+]+$"),
    Format("write the value as text: letters, digits and . _ : / + -, such as '200', 64m or Europe/Zurich"),
]


class Spark(ApiModel):
    """A Spark cluster: a standalone master, a Spark Connect server, and pools of workers.

    In the session's pods `SparkSession.builder.getOrCreate()` finds it.
    """

    # The server that runs was started with them.
    model_config = ConfigDict(
        json_schema_extra=rules(unchangeable("conf"), unchangeable("size"), unchangeable("nodePool")),
    )
    pools: list[Pool] = Field(
        min_length=1,
        max_length=8,
        description="Pools of workers, of the same kind as Dask's. Another shape of a pool (node pool, size, GPUs, "
        "threads, share of memory) replaces its workers.",
        json_schema_extra=BY_NAME,
    )
    size: Name | None = Field(
        default=None,
        description="A size of the profile for the Spark Connect server, which holds what queries bring back; the "
        "profile's default if left out. Immutable.",
    )
    node_pool: Name | None = Field(
        default=None,
        description="A node pool of the profile for the server; the profile's defaults.nodePool if left out. "
        "Immutable.",
    )
    conf: Annotated[
        dict[SparkOption, SparkValue],
        Field(max_length=len(SPARK_OPTIONS)),
        Rule(
            f"self.all(option, option in {list(SPARK_OPTIONS)})",
            f"these options of Spark may be set, and no others: {', '.join(SPARK_OPTIONS)}",
        ),
    ] = Field(
        default_factory=dict,
        description="Options of Spark, from a list of those that say how queries run. What is left of "
        "`spark.sql.*` can be set in a program, with `spark.conf.set`. Immutable.",
    )
