"""``AnalysisSession``: a physicist's unit of work. Only choices from the profile can be said here.

No pod spec, service account, host path, image reference, label or annotation is expressible: the API
server refuses what this schema does not name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from af_operator.api.common import ApiModel, Name, Quantity, Seconds, rule, rules

MAX_SOURCE_BYTES = 262_144
"""All inline source files together; an object must stay far below etcd's 1.5 MiB."""

FileName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.]*$")]


class Source(ApiModel):
    """The user's files, laid into the run's working directory. Exactly one of `files` and `configMap`."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.files) != has(self.configMap)", "give either files or configMap, not both and not neither"),
        )
    )
    files: dict[FileName, Annotated[str, Field(max_length=MAX_SOURCE_BYTES)]] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="File name to content, at most 256 KiB in all; `af run` fills this in.",
        json_schema_extra=rules(
            rule(
                f"self.map(name, size(self[name])).sum() <= {MAX_SOURCE_BYTES}",
                "the files are larger than 256 KiB in all: put them into a ConfigMap or the image",
            ),
            rule(
                "self.all(name, name.matches('^[A-Za-z0-9_][-A-Za-z0-9_.]*$') && size(name) <= 100)",
                "a file name is letters, digits, '_', '-' and '.', at most 100 characters, and no path",
            ),
        ),
    )
    config_map: Name | None = Field(
        default=None, description="Name of a ConfigMap in the session's namespace whose keys are the files."
    )


class Run(ApiModel):
    """The headless program: a Job that starts once the session's minimum is ready."""

    command: list[Annotated[str, Field(max_length=4096)]] = Field(
        min_length=1, max_length=64, description="Program and arguments; not run through a shell."
    )
    source: Source | None = Field(default=None, description="The user's files in the working directory.")
    size: Name | None = Field(default=None, description="A size of the profile; the profile's default if left out.")
    backoff_limit: int = Field(default=0, ge=0, le=10, description="How often a failed run is tried again.")
    active_deadline_seconds: Seconds | None = Field(
        default=None, description="Longest time from the release of the run to its end, retries included."
    )


class Workers(ApiModel):
    """How many workers. The run starts when `min` are ready; the pool asks for `max`."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("self.min <= self.max", "workers.min must not be larger than workers.max"))
    )
    min: int = Field(default=1, ge=0, le=1000, description="Ready workers before the session counts as ready.")
    max: int = Field(ge=0, le=1000, description="Workers that the pool asks for.")


class DaskPool(ApiModel):
    """Workers of one shape on one node pool."""

    name: Name
    node_pool: Name = Field(description="A node pool of the profile.")
    size: Name | None = Field(default=None, description="A size of the profile; the profile's default if left out.")
    workers: Workers
    gpus_per_worker: int = Field(
        default=0, ge=0, le=16, description="GPUs of the node pool's gpuResource for each worker."
    )


class Dask(ApiModel):
    """A Dask cluster: a scheduler and pools of workers. `Client()` without arguments finds it."""

    pools: list[DaskPool] = Field(
        min_length=1,
        max_length=8,
        description="Pools of workers; names are unique.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class XCache(ApiModel):
    """An XRootD cache that the session's `root://` reads go through, without a change in user code."""

    placement: Literal["Sidecar", "Session"] = Field(
        default="Sidecar",
        description="Sidecar: one cache in each pod that reads. Session: one cache for the whole session.",
    )
    size: Quantity = Field(default="10Gi", description="Disk for one cache.")


class EnvVar(ApiModel):
    """One environment variable of the user's processes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!self.name.matches('^(AF_|DASK_|XRD_|XROOT_|KUBERNETES_|LD_)')",
                "names that begin with AF_, DASK_, XRD_, XROOT_, KUBERNETES_ or LD_ are set by the session itself",
            ),
        )
    )
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    value: str = Field(max_length=4096, description="Literal value; `$(VAR)` is not expanded.")


class SessionSpec(ApiModel):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.mode == 'Headless' || !has(self.run)", "run needs mode: Headless"),
            rule("self.mode != 'Headless' || has(self.run)", "mode: Headless needs run"),
            rule("has(self.run) == has(oldSelf.run)", "run cannot be added or removed: create a new session"),
            rule("has(self.xcache) == has(oldSelf.xcache)", "xcache cannot be added or removed: create a new session"),
            rule("has(self.env) == has(oldSelf.env)", "env is immutable: create a new session"),
            rule("has(self.image) == has(oldSelf.image)", "image is immutable: create a new session"),
        )
    )
    profile: Name = Field(
        default="default",
        description="The AnalysisProfile to choose from. Immutable.",
        json_schema_extra=rules(rule("self == oldSelf", "profile is immutable: create a new session")),
    )
    user: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.@:+]*[A-Za-z0-9])?$",
        description="Who the session belongs to, as the API server knows them. Immutable.",
        json_schema_extra=rules(rule("self == oldSelf", "user is immutable: create a new session")),
    )
    mode: Literal["Interactive", "Headless"] = Field(
        description="Headless: runs `run` and finishes. Interactive: stays until it is deleted. Immutable.",
        json_schema_extra=rules(rule("self == oldSelf", "mode is immutable: create a new session")),
    )
    suspend: bool = Field(
        default=False, description="true: the compute goes; spec, cache of placement Session and results stay."
    )
    image: Name | None = Field(
        default=None,
        description="An image of the profile, for run, scheduler and workers alike; the profile's default if left out.",
        json_schema_extra=rules(rule("self == oldSelf", "image is immutable: create a new session")),
    )
    run: Run | None = Field(
        default=None,
        description="The headless program. Immutable.",
        json_schema_extra=rules(rule("self == oldSelf", "run is immutable: create a new session")),
    )
    dask: Dask | None = Field(default=None, description="Dask cluster of the session.")
    xcache: XCache | None = Field(
        default=None,
        description="Cache for `root://` reads. Immutable.",
        json_schema_extra=rules(rule("self == oldSelf", "xcache is immutable: create a new session")),
    )
    env: list[EnvVar] | None = Field(
        default=None,
        max_length=64,
        description="Environment of the user's processes: run, scheduler and workers. Immutable.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            **rules(rule("self == oldSelf", "env is immutable: create a new session")),
        },
    )
    lifetime_seconds: Seconds | None = Field(
        default=None, description="The session's compute ends this long after its creation, whatever it does."
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None, ge=0, le=31_536_000, description="A finished session is deleted after this time."
    )
