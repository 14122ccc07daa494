"""``AnalysisSession.status``: what the operator says. Written through /status only, never read back as truth."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from af_operator.api.common import ApiModel

Phase = Literal["Pending", "Starting", "Ready", "Running", "Suspended", "Succeeded", "Failed", "Refused"]


class Condition(ApiModel):
    """A condition in the form of metav1.Condition."""

    type: str = Field(max_length=63)
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(max_length=100, description="CamelCase constant.")
    message: str = Field(max_length=32_768, description="What is so, and what to do next.")
    last_transition_time: datetime
    observed_generation: int = Field(ge=0, le=2**62)


class PoolStatus(ApiModel):
    """Workers of one pool."""

    ready: int = Field(ge=0, le=10_000)
    desired: int = Field(ge=0, le=10_000)


class ComponentStatus(ApiModel):
    """Counts of one component."""

    pools: dict[str, PoolStatus] | None = Field(default=None, max_length=8)


class ResultFile(ApiModel):
    """A file that the run left."""

    url: str = Field(max_length=1000)
    bytes: int = Field(ge=0, le=2**62)
    adler32: Annotated[str, Field(max_length=8, pattern="^[0-9a-f]{8}$")]


class ResultsStatus(ApiModel):
    """What the run left at its results URL."""

    url: str = Field(max_length=1000)
    count: int = Field(ge=0, le=10**9, description="All files, also those that `files` has no room for.")
    bytes: int = Field(ge=0, le=2**62)
    files: list[ResultFile] = Field(default_factory=list, max_length=64)


class RunStatus(ApiModel):
    """The run, from its pod and its runner's report."""

    pod: str | None = Field(default=None, max_length=253, description="The latest pod; `kubectl logs` it.")
    exit_code: int | None = Field(default=None, ge=-1024, le=1024)
    reason: str | None = Field(default=None, max_length=100)
    start_time: datetime | None = None
    completion_time: datetime | None = None
    wall_seconds: float | None = Field(default=None, ge=0, le=1e9)
    peak_memory_bytes: int | None = Field(default=None, ge=0, le=2**62)
    attempts: int | None = Field(default=None, ge=0, le=100)
    results: ResultsStatus | None = None


class Endpoints(ApiModel):
    """Addresses inside the cluster."""

    dask: str | None = Field(default=None, max_length=500)
    dashboard: str | None = Field(default=None, max_length=500)
    xcache: str | None = Field(default=None, max_length=500)


class SessionStatus(ApiModel):
    """What is so."""

    observed_generation: int = Field(ge=0, le=2**62)
    phase: Phase = Field(description="One word made from the conditions; never read back.")
    conditions: list[Condition] = Field(
        max_length=32, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    )
    components: dict[str, ComponentStatus] | None = Field(default=None, max_length=16)
    endpoints: Endpoints | None = None
    run: RunStatus | None = None
