"""Pods that fit the ``restricted`` Pod Security Standard, written as the API server would write them.

Whatever the server would normalise or drop (quantities, empty lists, empty strings) is written in its
final form: a difference that is none would be applied again in every pass.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any

from af_operator.api.profile import Size
from af_operator.model import Body, PodPatch, Session

_DECIMAL = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5}
_SMALL_AND_LARGE = {"n": -9, "u": -6, "m": -3, "E": 18}
# As the API server takes them, but no longer than anybody needs: in objects of the Dask operator they are any text.
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}))"
    r"(?:(?P<decimal>[numkMGTPE]?)|(?P<binary>[KMGTPE])i|[eE](?P<exponent>[+-]?[0-9]{1,2}))"
)

POD_SECURITY: Body = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
GROUP: Body = {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"}
GROUP_READS = 0o440
"""Mode of files of a Secret that programs take only where no others may read them."""
CONTAINER_SECURITY: Body = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

DISK = "ephemeral-storage"
LEAST_DISK, DISK_PER_MEMORY = 10 * 2**30, 4
"""What a size allows that does not say: what Dask spills, and a few files. Enough to work with, and so little that a
program that writes without end does not take its node along."""
RESERVED_DISK = "256Mi"
"""Of that, what a node must have free. Most sessions write little: were all of it asked for, nodes with small disks
would take a few pods, and have most of their cores idle."""
LOGS = "1Gi"
"""Disk of a program that writes nothing but its log, of which the kubelet keeps some 50 MiB."""
TMP, SHARED_MEMORY = "/tmp", "/dev/shm"  # noqa: S108 -- the pod's own


@dataclass(frozen=True)
class Place:
    """Where a pod may run, and what else the profile says of pods whatever is in them: parts of a pod spec."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Body] = ()
    affinity: Body = field(default_factory=dict)
    pull_secrets: Sequence[str] = ()
    priority: str | None = None


def parse_quantity(text: str) -> Decimal:
    """Return the value of a Kubernetes quantity: ``500m`` is 0.5, ``1Ki`` is 1024.

    Raises
    ------
    ValueError
        It is none.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no quantity")
    number = Decimal(match["number"])
    if match["binary"]:
        return number * int(1024 ** (1 + "KMGTPE".index(match["binary"])))
    power = int(match["exponent"]) if match["exponent"] else (_DECIMAL | _SMALL_AND_LARGE)[match["decimal"] or ""]
    return number.scaleb(power)


def extended(resources: Mapping[str, str]) -> dict[str, int]:
    """Return the extended resources among these, such as GPUs: they alone have a slash in their name."""
    counts = {}
    for name, amount in resources.items():
        with suppress(ValueError):  # what is no quantity asks for nothing
            if "/" in name:
                counts[name] = int(parse_quantity(amount))
    return counts


def gpus(pod: Body) -> dict[str, int]:
    """Return the GPUs of a worker's pod spec, by resource."""
    first: Body = next(iter(pod.get("containers", ())), {})
    return extended(first.get("resources", {}).get("limits", {}))


def quantity(text: str) -> str:
    """Return a quantity as the API server writes it: ``1000m`` is ``1``, ``1.5Gi`` is ``1536Mi``."""
    value = parse_quantity(text)
    if text.endswith("i") and value >= 1024:
        return binary_quantity(int(value.to_integral_value(ROUND_CEILING)))
    if value != value.to_integral_value():
        return f"{int((value * 1000).to_integral_value(ROUND_CEILING))}m"
    whole = int(value)
    fits = [(power, suffix) for suffix, power in _DECIMAL.items() if whole and whole % 10**power == 0]
    power, suffix = max(fits, default=(0, ""))
    return f"{whole // 10**power}{suffix}"


def binary_quantity(count: int) -> str:
    """Return a number of bytes as the API server writes it, with the largest binary suffix that loses nothing."""
    fits = [(power, suffix) for suffix, power in _BINARY.items() if count >= 1024 and count % 1024**power == 0]
    power, suffix = max(fits, default=(0, ""))
    return f"{count // 1024**power}{suffix}"


def resources(size: Size, extended: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return the resources of a container of this size; `extended` names GPUs, of which request is limit.

    Each is requested and limited: in a namespace with a quota on any of them a pod that does not say is refused.
    """
    gpus = {name: str(count) for name, count in (extended or {}).items()}
    memory = quantity(size.memory)
    reserved = quantity(size.ephemeral_storage or RESERVED_DISK)
    return {
        "requests": {"cpu": quantity(size.cpu), "memory": memory, DISK: reserved} | gpus,
        "limits": {"cpu": cpu_limit(size), "memory": memory, DISK: disk(size)} | gpus,
    }


def fixed_resources(requests: tuple[str, str], limits: tuple[str, str], disk_limit: str = LOGS) -> dict[str, Any]:
    """Return the resources of a program whose size nobody chooses: CPU and memory each, and the most of disk."""
    names = ("cpu", "memory", DISK)
    return {
        "requests": dict(zip(names, (*requests, RESERVED_DISK), strict=True)),
        "limits": dict(zip(names, (*limits, disk_limit), strict=True)),
    }


def cpu_limit(size: Size) -> str:
    """Return the CPU limit of a size: where it says none, more than what it has threads for ever takes.

    A worker computes with as many threads as it has cores, and one more receives and sends.
    """
    cpu = parse_quantity(size.cpu)
    return quantity(size.cpu_limit or str(max(2 * cpu, cpu + 1)))


def disk(size: Size) -> str:
    """Return how much of its node's disk a container of this size may take."""
    if size.ephemeral_storage:
        return quantity(size.ephemeral_storage)
    return binary_quantity(max(LEAST_DISK, DISK_PER_MEMORY * _mebibytes(size.memory)))


def scratch(size: Size, directories: Mapping[str, str]) -> tuple[list[Body], list[Body]]:
    """Return volumes that live as long as their pod, and where they are mounted: these directories, and /dev/shm.

    Each may take all that the size has, and all together too: the kubelet evicts a pod that has more, and says where.

    Parameters
    ----------
    directories
        Path by the volume's name.
    """
    shared = quantity(size.shared_memory) if size.shared_memory else binary_quantity(_mebibytes(size.memory, 2))
    # In memory, so it counts as the container's. Without a volume the runtime gives 64 MiB, whatever the memory.
    memory: Body = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared}}
    volumes: list[Body] = [*(empty_dir(name, disk(size)) for name in directories), memory]
    paths = {**directories, "shm": SHARED_MEMORY}
    return volumes, [{"name": name, "mountPath": path} for name, path in paths.items()]


def _mebibytes(text: str, divisor: int = 1) -> int:
    """Return bytes, in whole mebibytes: a quantity that everybody can read."""
    return max(1, int(parse_quantity(text)) // divisor // 2**20) * 2**20


def env(values: Mapping[str, str]) -> list[Body]:
    """Return environment entries with literal values: the kubelet would expand ``$(NAME)``."""
    return [{"name": n, "value": literal(v)} if v else {"name": n} for n, v in values.items()]


def literal(text: str) -> str:
    """Return text that the kubelet leaves as it is, for values and arguments that users wrote."""
    return text.replace("$", "$$")


def variables(session: Session) -> dict[str, str]:
    """Return the session's own variables, for `env`, in one mapping: the API server refuses one named twice."""
    return {each.name: each.value for each in session.spec.env or ()}


def container(name: str, image: str, command: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """Return a container; without a command the image's entrypoint runs. Empty entries of `more` are left out."""
    return {
        "name": name,
        "image": image,
        **({"command": list(command)} if command else {}),
        "securityContext": dict(CONTAINER_SECURITY),
        # The last lines of a crash are then in the pod's status, where reading them costs nothing.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **{key: value for key, value in more.items() if value},
    }


def patched(base: Body, patch: PodPatch) -> dict[str, Any]:
    """Return the user's container with what the other components add to it; of a variable of both theirs counts."""
    env = {each["name"]: dict(each) for each in (*base.get("env", ()), *patch.env)}
    added = {
        "env": list(env.values()),
        "volumeMounts": [*base.get("volumeMounts", ()), *map(dict, patch.mounts)],
    }
    return {**base, **{key: value for key, value in added.items() if value}}


def pod(containers: Iterable[Body], volumes: Iterable[Body], place: Place) -> dict[str, Any]:
    """Return a pod spec without any right in the API."""
    held = list(volumes)
    optional = {
        "volumes": held,
        "nodeSelector": dict(place.node_selector),
        "affinity": place.affinity,
        "tolerations": list(place.tolerations),
        "imagePullSecrets": [{"name": name} for name in place.pull_secrets],
        "priorityClassName": place.priority,
    }
    return {
        "automountServiceAccountToken": False,
        # Otherwise every Service of the namespace adds variables, and some programs read them as their own.
        "enableServiceLinks": False,
        "securityContext": {**POD_SECURITY, **(GROUP if any(map(_is_of_group, held)) else {})},
        "containers": list(containers),
        **{key: value for key, value in optional.items() if value},
    }


def _is_of_group(volume: Body) -> bool:
    """Return whether a volume's files, which belong to root, are for the group alone: it is the pod's, then."""
    return bool(volume.get("secret", {}).get("defaultMode") == GROUP_READS)


def with_sidecars(spec: Body, sidecars: Sequence[Body]) -> dict[str, Any]:
    """Return a pod spec with native sidecars: they start before its program, and keep no Job from ending."""
    native = [{**sidecar, "restartPolicy": "Always"} for sidecar in sidecars]
    return {**spec, **({"initContainers": native} if native else {})}


def empty_dir(name: str, limit: str) -> dict[str, Any]:
    """Return a volume that lives as long as its pod; one that takes more is evicted."""
    return {"name": name, "emptyDir": {"sizeLimit": limit}}


def digest(value: Any) -> str:
    """Return a short hash of anything that is JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
