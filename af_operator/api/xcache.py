"""A session's cache, and what a facility offers of it: the parts of both kinds about that."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from af_operator.api.common import ApiModel, Bytes, Format, ImageReference, Name, forbidden, rules
from af_operator.api.inference import ModelName


class XCacheDecision(ApiModel):
    """Which files are worth keeping: a model of the session is asked at each open of a file that is not cached."""

    model: ModelName = Field(
        description="A model of the session's `inference`, which says how probable it is that a file is read again."
    )
    # Too high a threshold costs more than too low a one, the more the larger the cache is: benchmarks/README.md.
    threshold_percent: int = Field(
        default=20, ge=0, le=100, description="What is less probable is read past the cache, and not kept."
    )


class XCache(ApiModel):
    """An XRootD cache that the session's `root://` reads go through, without a change in user code."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            forbidden(
                "!has(self.decision) || self.placement == 'Session'",
                "decision",
                "decision needs placement: Session; the cache of one pod sees too few opens to decide by",
            ),
            forbidden(
                "!has(self.nodePool) || self.placement == 'Session'",
                "nodePool",
                "nodePool needs placement: Session; a sidecar is where the pod is that it serves",
            ),
        )
    )
    placement: Literal["Sidecar", "Session"] = Field(
        default="Sidecar",
        description="Sidecar: one cache in each pod that reads. Session: one cache for the whole session.",
    )
    size: Bytes = Field(
        default="10Gi",
        description="Disk for one cache, at least 100Mi and at most the profile's xcache.maxSize. What there is no "
        "room for is read past it.",
    )
    node_pool: Name | None = Field(
        default=None,
        description="Only with placement Session: a node pool of the profile; the profile's defaults.nodePool if left "
        "out.",
    )
    decision: XCacheDecision | None = Field(
        default=None,
        description="Only with placement Session. Left out, or while the model does not answer within 50 ms, every "
        "file is cached.",
    )


class ProfileXCache(ApiModel):
    """The caches, and where they read from. One origin: a cache knows files by their path alone."""

    image: ImageReference = Field(
        description="Image with xrootd and this project's plugins for it, of the operator's release: `xcache`."
    )
    origin: Annotated[
        str,
        Field(max_length=260, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?$"),
        Format("write host:port, such as xrootd.example.org:1094; no scheme, no path"),
    ] = Field(
        min_length=1,
        description="host:port of the one server whose files are cached, in practice a site's redirector. URLs that "
        "name another, or the same by another name, are read past the cache.",
    )
    max_size: Bytes = Field(default="100Gi", description="Largest disk of one cache.")
    memory: Bytes = Field(default="1536Mi", description="Memory limit of one cache; its buffers take up to 1 GiB.")
