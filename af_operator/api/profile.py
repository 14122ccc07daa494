"""``AnalysisProfile``: the facility's catalogue. Sessions choose from it by name and can say nothing else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from af_operator.api.common import ApiModel, Name, Quantity, Seconds, rule, rules

ImageReference = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[a-z0-9][A-Za-z0-9./_:@-]*$")]
Label = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
BY_NAME: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class Image(ApiModel):
    """An image that sessions may name."""

    name: Name
    image: ImageReference = Field(description="Reference, best with a digest: what a session gets never changes then.")


class Size(ApiModel):
    """A shape of a container: what it asks for and what it may use."""

    name: Name
    cpu: Quantity = Field(description="CPU request; also the number of threads of a Dask worker, rounded up.")
    cpu_limit: Quantity | None = Field(default=None, description="CPU limit; none if left out.")
    memory: Quantity = Field(description="Memory request and limit.")


class Toleration(ApiModel):
    """A taint that pods of a node pool tolerate."""

    key: str = Field(max_length=317)
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = Field(default=None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class NodePool(ApiModel):
    """Nodes that pods may be placed on."""

    name: Name
    node_selector: dict[str, Label] = Field(default_factory=dict, max_length=16)
    tolerations: list[Toleration] = Field(default_factory=list, max_length=16)
    gpu_resource: str | None = Field(
        default=None, max_length=100, description="Extended resource of one GPU, e.g. nvidia.com/gpu."
    )
    max_workers: int | None = Field(default=None, ge=0, le=10_000, description="Workers of one session on this pool.")


class ProfileXCache(ApiModel):
    """Where caches read from. One origin: the cache's key is the path alone."""

    image: ImageReference
    origin: str = Field(
        min_length=1,
        max_length=260,
        pattern=r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?$",
        description="host:port of the one permitted origin, in practice a site's redirector.",
    )
    max_size: Quantity = Field(default="100Gi", description="Largest disk of one cache.")
    memory: Quantity = Field(default="1536Mi", description="Memory limit of one cache (its buffers take up to 1 GiB).")


class Results(ApiModel):
    """Where runs put what they leave in $AF_RESULTS."""

    url: str = Field(
        min_length=1,
        max_length=500,
        pattern=r"^[a-z0-9]+://",
        description="Base URL for fsspec (root://, s3://, file://); a session gets <url>/<namespace>/<name>-<uid>.",
    )


class Limits(ApiModel):
    """What one session may have in all."""

    workers: int = Field(default=100, ge=0, le=10_000, description="Dask workers over all pools.")
    gpus: int = Field(default=0, ge=0, le=10_000, description="GPUs over all pools.")
    lifetime_seconds: Seconds | None = Field(default=None, description="Longest lifetimeSeconds; also the default.")


class Defaults(ApiModel):
    """What a session gets that does not say."""

    image: Name | None = Field(default=None, description="The first image if left out.")
    size: Name | None = Field(default=None, description="The first size if left out.")
    ttl_seconds_after_finished: int = Field(default=86_400, ge=0, le=31_536_000)


class ProfileSpec(ApiModel):
    """The catalogue."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.defaults) || !has(self.defaults.image) || "
                "self.images.exists(i, i.name == self.defaults.image)",
                "defaults.image must be one of images",
            ),
            rule(
                "!has(self.defaults) || !has(self.defaults.size) || self.sizes.exists(s, s.name == self.defaults.size)",
                "defaults.size must be one of sizes",
            ),
        )
    )
    images: list[Image] = Field(min_length=1, max_length=64, json_schema_extra=BY_NAME)
    sizes: list[Size] = Field(min_length=1, max_length=64, json_schema_extra=BY_NAME)
    node_pools: list[NodePool] = Field(default_factory=list, max_length=64, json_schema_extra=BY_NAME)
    xcache: ProfileXCache | None = None
    results: Results | None = None
    limits: Limits = Field(default_factory=Limits)
    defaults: Defaults = Field(default_factory=Defaults)
