"""What objects ask of a namespace's ResourceQuotas, and which of these has no room for that. Pure.

Counted is what Kubernetes counts: objects, and of pods requests and limits of all their containers. Quotas with scopes
are left to the API server: which pods they are about is not known before there are pods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from af_operator import names
from af_operator.components._shared import pod_spec
from af_operator.model import Body, label_of

Amounts = Mapping[str, Decimal]
PLURALS = {
    "Pod": "pods",
    "Service": "services",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Deployment": "deployments.apps",
    "StatefulSet": "statefulsets.apps",
    "Job": "jobs.batch",
    "NetworkPolicy": "networkpolicies.networking.k8s.io",
}
BARE = frozenset({"pods", "services", "configmaps", "secrets", "persistentvolumeclaims"})
"""What a quota also counts by its plain name, without ``count/``."""
SHORT = frozenset({"cpu", "memory", "ephemeral-storage"})
"""What stands for its requests."""


class Place(NamedTuple):
    """Pods that are alike: of one component, role and pool."""

    component: str | None
    role: str | None
    pool: str | None


class Pods(NamedTuple):
    """Some pods of one place, and what each asks for."""

    place: Place
    number: int
    each: Amounts


class Need(NamedTuple):
    """What a session's minimum asks for: all together, and what of that is not there yet."""

    whole: Amounts
    missing: Amounts


def place_of(pod: Body) -> Place:
    """Return which place a pod has, or pods that are made of a template."""
    role = label_of(pod, names.ROLE) or label_of(pod, "dask.org/component")
    return Place(label_of(pod, names.COMPONENT), role, label_of(pod, names.POOL))


def need(wanted: Iterable[tuple[Body, bool]], live: Sequence[Body], least: Mapping[Place, int]) -> Need:
    """Return what a session needs.

    Parameters
    ----------
    wanted
        Every object that it should have, and whether it is there.
    live
        Its pods.
    least
        Of workers, how many are its minimum; of all others, all are.
    """
    objects = list(wanted)
    there = Counter(map(place_of, live))
    whole = _objects(body for body, _ in objects)
    missing = _objects(body for body, is_there in objects if not is_there)
    for place, pods in _by_place(pods for body, _ in objects for pods in _pods(body)).items():
        count = min(sum(each.number for each in pods), least.get(place, 1 << 30))
        _add(whole, pods[0].each, count)
        _add(missing, pods[0].each, max(0, count - there[place]))
    return Need(whole, missing)


def exceeded(quotas: Iterable[Body], amounts: Amounts, promised: Amounts | None) -> str | None:
    """Say which quota has no room for so much, in the API server's words; None where all have.

    Parameters
    ----------
    promised
        What others are about to make, beside what is used; None to ask whether it fits at all, were nothing used.
    """
    for quota in quotas:
        if quota.get("spec", {}).get("scopes") or quota.get("spec", {}).get("scopeSelector"):
            continue
        hard, used = quota.get("status", {}).get("hard", {}), _used(quota, promised)
        over = sorted(n for n, most in hard.items() if amounts.get(n) and used.get(n, 0) + amounts[n] > _number(most))
        if over:
            numbers = [("requested", amounts), *([("used", used)] if promised is not None else [])]
            said = [f"{word}: {','.join(f'{n}={_written(n, of.get(n))}' for n in over)}" for word, of in numbers]
            said.append(f"limited: {','.join(f'{n}={hard[n]}' for n in over)}")
            return f"exceeded quota: {quota['metadata']['name']}, {', '.join(said)}"
    return None


def together(needs: Iterable[Amounts]) -> dict[str, Decimal]:
    """Return the sum of what several ask for."""
    total: dict[str, Decimal] = {}
    for each in needs:
        _add(total, each, 1)
    return total


def _used(quota: Body, promised: Amounts | None) -> dict[str, Decimal]:
    if promised is None:
        return {}
    used = {name: _number(amount) for name, amount in quota.get("status", {}).get("used", {}).items()}
    return together([used, promised])


def _objects(bodies: Iterable[Body]) -> dict[str, Decimal]:
    counts: Counter[str] = Counter()
    for plural in (PLURALS.get(body["kind"]) for body in bodies if body["kind"] != "Pod"):
        if plural:
            counts.update([f"count/{plural}", *([plural] if plural in BARE else [])])
        if plural == PLURALS["Deployment"]:
            counts["count/replicasets.apps"] += 1
    return {name: Decimal(count) for name, count in counts.items()}


def _pods(body: Body) -> Iterator[Pods]:
    """Yield the pods that an object is, or that others make of it; of a Job also while it is suspended."""
    spec = body.get("spec", {})
    if body["kind"] == "Pod":
        yield Pods(place_of(body), 1, _of_pod(spec))
    elif body["kind"] in ("Deployment", "StatefulSet", "Job"):
        template = {"metadata": {}, **spec["template"]}
        yield Pods(place_of(template), spec.get("replicas", 1), _of_pod(template["spec"]))
    for role in ("scheduler", "worker") if body["apiVersion"].startswith("kubernetes.dask.org/") else ():
        part = spec.get(role)
        if part:
            place = Place("dask", role, label_of(body, names.POOL) if role == "worker" else None)
            yield Pods(place, part.get("replicas", 1), _of_pod(part["spec"]))


def _by_place(found: Iterable[Pods]) -> dict[Place, list[Pods]]:
    by_place: dict[Place, list[Pods]] = {}
    for pods in found:
        by_place.setdefault(pods.place, []).append(pods)
    return by_place


def _of_pod(spec: Body) -> Amounts:
    """Return what one pod counts for: its containers and sidecars together, or its largest step before them."""
    beside = [c for c in spec.get("initContainers", ()) if c.get("restartPolicy") == "Always"]
    steps = [c for c in spec.get("initContainers", ()) if c.get("restartPolicy") != "Always"]
    amounts: dict[str, Decimal] = {}
    for container in (*spec.get("containers", ()), *beside):
        _add(amounts, _of_container(container), 1)
    for container in steps:
        largest = {name: max(amount, amounts.get(name, amount)) for name, amount in _of_container(container).items()}
        amounts |= largest
    short = {name: amounts.get(f"requests.{name}", Decimal(0)) for name in SHORT}
    return {**amounts, **short, "pods": Decimal(1), "count/pods": Decimal(1)}


def _of_container(container: Body) -> dict[str, Decimal]:
    resources = container.get("resources", {})
    return {
        f"{which}.{name}": _number(amount)
        for which in ("requests", "limits")
        for name, amount in resources.get(which, {}).items()
    }


def _add(to: dict[str, Decimal], amounts: Amounts, times: int) -> None:
    for name, amount in amounts.items():
        to[name] = to.get(name, Decimal(0)) + amount * times


def _number(quantity: str | None) -> Decimal:
    return pod_spec.parse_quantity(quantity) if quantity else Decimal(0)


def _written(name: str, amount: Decimal | None) -> str:
    in_bytes = name.endswith(("memory", "storage"))
    return pod_spec.binary_quantity(int(amount or 0)) if in_bytes else pod_spec.quantity(f"{amount or 0:f}")
