"""Where a pod wrote more of its node's disk than it may: the kubelet names a volume, people know a directory. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from af_operator.model import Body

_VOLUME = re.compile(r'EmptyDir volume "(?P<volume>[^"]{1,63})" exceeds the limit "(?P<limit>[^"]{1,20})"')
_CONTAINER = re.compile(
    r'Container (?P<container>\S{1,63}) exceeded its local ephemeral storage limit "(?P<limit>[^"]{1,20})"'
)
_POD = re.compile(r"ephemeral local storage usage exceeds the total limit of containers (?P<limit>[^\s.]{1,20})")


def exceeded(pod: Body) -> tuple[str | None, str] | None:
    """Return whose limit a pod was evicted for, and in words where it wrote too much; None where it was not for that.

    Whose is the name of a container: the one that has the directory.
    """
    message = pod.get("status", {}).get("message") or ""
    if volume := _VOLUME.search(message):
        container, path = next(_mounts(pod, volume["volume"]), (None, f"volume {volume['volume']}"))
        return container, f"{path} has more than {volume['limit']}"
    if own := _CONTAINER.search(message):
        outside = f"container {own['container']} wrote more than {own['limit']} outside of its volumes, or into its log"
        return own["container"], outside
    if total := _POD.search(message):
        paths = sorted({path for volume in _on_disk(pod) for _, path in _mounts(pod, volume)})
        return None, f"{', '.join(paths) or 'its containers'} and its logs have together more than {total['limit']}"
    return None


def _mounts(pod: Body, volume: str) -> Iterator[tuple[str | None, str]]:
    """Yield who mounts a volume, and where."""
    spec = pod.get("spec", {})
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        for mount in container.get("volumeMounts", ()):
            if mount["name"] == volume:
                yield container["name"], mount["mountPath"]


def _on_disk(pod: Body) -> Iterator[str]:
    """Yield the volumes that are directories of the node."""
    volumes = (volume for volume in pod.get("spec", {}).get("volumes", ()) if "emptyDir" in volume)
    yield from (volume["name"] for volume in volumes if volume["emptyDir"].get("medium") != "Memory")
