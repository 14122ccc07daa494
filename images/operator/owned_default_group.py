"""Loaded into the operator of dask-kubernetes: a cluster's default group has its owner from the start.

That operator (2026.3) creates the group without an owner and adopts it later, in a handler that fails for ever
when the cluster was deleted in between. The group then stays for good. Its other objects are adopted like this.
"""

from typing import Any

import kopf
from dask_kubernetes.operator.controller import controller

build_unowned = controller.build_default_worker_group_spec


def build_owned(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the group's manifest, owned by the cluster whose handler runs."""
    manifest: dict[str, Any] = build_unowned(*args, **kwargs)
    kopf.adopt(manifest)
    return manifest


controller.build_default_worker_group_spec = build_owned
