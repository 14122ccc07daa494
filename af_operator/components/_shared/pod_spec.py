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
from decimal import ROUND_CEILING, Decimal
from typing import Any

from af_operator.api.profile import NodePool, Size
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
CONTAINER_SECURITY: Body = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


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
    """Return the resources of a container of this size; `extended` names GPUs, of which request is limit."""
    gpus = {name: str(count) for name, count in (extended or {}).items()}
    memory = quantity(size.memory)
    limit = {"cpu": quantity(size.cpu_limit)} if size.cpu_limit else {}
    return {
        "requests": {"cpu": quantity(size.cpu), "memory": memory} | gpus,
        "limits": limit | {"memory": memory} | gpus,
    }


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


def pod(
    containers: Iterable[Body],
    volumes: Iterable[Body] = (),
    node_pool: NodePool | None = None,
    affinity: Body | None = None,
) -> dict[str, Any]:
    """Return a pod spec without any right in the API, placed on the pool's nodes."""
    pool = node_pool.model_dump(by_alias=True, exclude_none=True) if node_pool else {}
    optional = {
        "volumes": list(volumes),
        "nodeSelector": pool.get("nodeSelector"),
        "affinity": affinity,
        "tolerations": pool.get("tolerations"),
    }
    return {
        "automountServiceAccountToken": False,
        # Otherwise every Service of the namespace adds variables, and some programs read them as their own.
        "enableServiceLinks": False,
        "securityContext": dict(POD_SECURITY),
        "containers": list(containers),
        **{key: value for key, value in optional.items() if value},
    }


def with_sidecars(spec: Body, sidecars: Sequence[Body]) -> dict[str, Any]:
    """Return a pod spec with native sidecars: they start before its program, and keep no Job from ending."""
    native = [{**sidecar, "restartPolicy": "Always"} for sidecar in sidecars]
    return {**spec, **({"initContainers": native} if native else {})}


def empty_dir(name: str, limit: str | None = None) -> dict[str, Any]:
    """Return a volume that lives as long as its pod."""
    return {"name": name, "emptyDir": {"sizeLimit": limit} if limit else {}}


def digest(value: Any) -> str:
    """Return a short hash of anything that is JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
