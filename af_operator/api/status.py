"""``AnalysisSession.status``: what the operator says. Written through /status only.

The operator reads it back for what nothing else tells any more, as ``model.Session.status`` lists it; all else that is
in there it finds out anew in each pass.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from af_operator.api.common import BY_NAME, BY_TYPE, ApiModel

Phase = Literal["Pending", "Starting", "Ready", "Running", "Suspended", "Succeeded", "Failed", "Refused"]

EXACT = 2**53
"""The API server keeps bounds as floats: the largest one that it publishes as it was written."""


class Condition(ApiModel):
    """One statement about the session, in the form of metav1.Condition."""

    type: str = Field(
        max_length=63,
        description="Ready (the summary), Accepted (the spec fits the profile), <Component>Ready, RunComplete, "
        "Suspended, HubRegistered, HasRoom (only where room was wanting), SchedulerLost, SparkLost, InferenceLost, "
        "NotebookLost, or InternalError (the operator fails at the session).",
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: str = Field(max_length=100, description="CamelCase constant for programs.")
    message: str = Field(max_length=32_768, description="What is so, and what to do next.")
    last_transition_time: datetime = Field(description="When status last changed.")
    observed_generation: int = Field(ge=0, le=EXACT, description="The metadata.generation that this is about.")


class PoolStatus(ApiModel):
    """Workers of one pool."""

    ready: int = Field(ge=0, le=10_000, description="Workers that are ready.")
    desired: int = Field(ge=0, le=10_000, description="Workers that the pool asks for.")
    last_loss: str | None = Field(
        default=None,
        max_length=1000,
        description="How a worker was lost last: to an eviction, a preemption, a lost node, or for its memory.",
    )


class ComponentStatus(ApiModel):
    """One component: how many there are of what it has, and where it is found."""

    pools: dict[str, PoolStatus] | None = Field(default=None, max_length=8, description="Pool by name.")
    pods: dict[str, Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=16)]] | None = Field(
        default=None,
        max_length=16,
        description="Pods whose program has begun, by pool, or by what they are; some where they are many: `af "
        "logs` shows their logs.",
    )
    models: dict[str, Annotated[str, Field(max_length=9)]] | None = Field(
        default=None, max_length=32, description="The version of each model of the catalogue that is served."
    )
    endpoints: dict[str, Annotated[str, Field(max_length=4096)]] | None = Field(
        default=None, max_length=8, description="Addresses inside the cluster, by what is found there."
    )


class ResultFile(ApiModel):
    """A file that the run left."""

    url: str = Field(max_length=1000, description="Where it is.")
    bytes: int = Field(ge=0, le=EXACT, description="Its size.")
    adler32: str = Field(max_length=8, pattern="^[0-9a-f]{8}$", description="Its checksum, as XRootD counts it.")


class ResultsStatus(ApiModel):
    """What the run left at its results URL."""

    url: str = Field(max_length=1000, description="The folder of all files.")
    count: int = Field(ge=0, le=10**9, description="Number of all files, also of those that `files` has no room for.")
    bytes: int = Field(ge=0, le=EXACT, description="Size of all files together.")
    files: list[ResultFile] = Field(
        default_factory=list, max_length=64, description="The files; the first ones where they are many."
    )


class RunStatus(ApiModel):
    """The run, from its pod and its runner's report."""

    pod: str | None = Field(default=None, max_length=253, description="The latest pod; `af logs` shows its log.")
    exit_code: int | None = Field(default=None, ge=-1024, le=1024, description="Exit code of the user's command.")
    reason: str | None = Field(default=None, max_length=100, description="Why it ended, as condition RunComplete says.")
    start_time: datetime | None = Field(default=None, description="When the latest pod's command began.")
    completion_time: datetime | None = Field(default=None, description="When the run came to its end.")
    wall_seconds: float | None = Field(default=None, ge=0, le=1e9, description="How long the command ran.")
    peak_memory_bytes: int | None = Field(
        default=None, ge=0, le=EXACT, description="Largest memory of the command and its children."
    )
    attempts: int | None = Field(default=None, ge=0, le=100, description="Pods started so far.")
    disruptions: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="How often the run lost its pod to the cluster: an eviction, a drain, a preemption, a lost node. "
        "These do not count as failures.",
    )
    last_disruption: str | None = Field(
        default=None, max_length=1000, description="What the latest of them was, in words."
    )
    results: ResultsStatus | None = None


class Endpoints(ApiModel):
    """Addresses inside the cluster that there were before each component had its own: no others are added here."""

    notebook: str | None = Field(
        # A user of 253 characters takes up to twelve times as many in a path.
        default=None,
        max_length=4096,
        description="URL of the notebook server, with its path.",
    )
    dask: str | None = Field(default=None, max_length=500, description="The Dask scheduler, for Client(...).")
    dashboard: str | None = Field(default=None, max_length=500, description="URL of the Dask dashboard.")
    xcache: str | None = Field(default=None, max_length=500, description="host:port of the session's cache.")


class PoolCapacity(ApiModel):
    """GPUs of one node pool."""

    name: str = Field(max_length=63, description="The node pool.")
    gpus: int = Field(ge=0, le=1_000_000, description="GPUs of its nodes that take pods.")
    gpus_free: int = Field(
        ge=0,
        le=1_000_000,
        description="Those that no session uses or waits for; other pods are not counted.",
    )


class ProfileCondition(ApiModel):
    """One statement about the facility, in the form of metav1.Condition."""

    type: str = Field(
        max_length=63,
        description="NetworkEnforced: the cluster's network enforces NetworkPolicies, sessions' among them. "
        "NetworkComplete: what the profile names can be said in one, and nothing that must be closed is open.",
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: str = Field(max_length=100, description="CamelCase constant for programs.")
    message: str = Field(max_length=32_768, description="What is so, and what to do next.")
    last_transition_time: datetime = Field(description="When status last changed.")


class ProfileStatus(ApiModel):
    """What is free right now, and what the facility is like. Written by the operator alone."""

    node_pools: list[PoolCapacity] = Field(
        default_factory=list,
        max_length=64,
        description="The node pools that have a gpuResource.",
        json_schema_extra=BY_NAME,
    )
    gpus: str | None = Field(
        default=None, max_length=6400, description="The same in words, for people: gpu 1 of 2 free, big 0 of 8 free."
    )
    conditions: list[ProfileCondition] = Field(
        default_factory=list,
        max_length=8,
        description="What is so of the facility; programs look here.",
        json_schema_extra=BY_TYPE,
    )


class SessionStatus(ApiModel):
    """What is so. Written by the operator alone."""

    observed_generation: int = Field(ge=0, le=EXACT, description="The metadata.generation that this is about.")
    phase: Phase = Field(description="One word made from the conditions, for people.")
    conditions: list[Condition] = Field(
        max_length=32,
        description="What is so in detail; programs look here.",
        json_schema_extra=BY_TYPE,
    )
    components: dict[str, ComponentStatus] | None = Field(
        default=None, max_length=16, description="Each component, by its name."
    )
    endpoints: Endpoints | None = Field(
        default=None, description="The same addresses as in components, of those that were here first."
    )
    last_activity: datetime | None = Field(
        default=None,
        description="When the session was last used, to five minutes: a kernel, a task, the begin or end of a run. A "
        "run that goes on is in use.",
    )
    run: RunStatus | None = None
