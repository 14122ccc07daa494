"""What an object mounts, grants or names in its own namespace: what must be there first, and be ours. Pure.

A name says nothing of whose it is. Were a pod made beside a ConfigMap of somebody else that has the name of ours, it
would run what that says; and a Role would grant what is not the session's. So what is referred to is made first, and
where its name is taken nothing is made that refers to it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

from af_operator.model import NETWORK_POLICY, POD, Body, Kind, Manifest, ObjectRef

CONFIG_MAP, SECRET, VOLUME_CLAIM = ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "PersistentVolumeClaim")
SERVICE, SERVICE_ACCOUNT = ("v1", "Service"), ("v1", "ServiceAccount")
STATEFUL_SET = ("apps/v1", "StatefulSet")
ROLE = ("rbac.authorization.k8s.io/v1", "Role")
DASK_CLUSTER = ("kubernetes.dask.org/v1", "DaskCluster")

GRANTED = (
    Kind(*CONFIG_MAP, "configmaps"),
    Kind(*SECRET, "secrets"),
    Kind(*VOLUME_CLAIM, "persistentvolumeclaims"),
    Kind(*SERVICE, "services"),
    Kind(*SERVICE_ACCOUNT, "serviceaccounts"),
    Kind(*STATEFUL_SET, "statefulsets"),
    Kind("apps/v1", "Deployment", "deployments"),
    Kind("batch/v1", "Job", "jobs"),
    Kind(*ROLE, "roles"),
    Kind(ROLE[0], "RoleBinding", "rolebindings"),
    Kind(*DASK_CLUSTER, "daskclusters"),
    Kind(DASK_CLUSTER[0], "DaskWorkerGroup", "daskworkergroups"),
    NETWORK_POLICY,
    POD,
)
"""Kinds of which a Role may grant a single object by name: all that components make, and service accounts."""
IN_PODS = {
    "configMap": (CONFIG_MAP, "name"),
    "configMapRef": (CONFIG_MAP, "name"),
    "configMapKeyRef": (CONFIG_MAP, "name"),
    "secret": (SECRET, "secretName"),  # a volume's own; one source of a projected volume says `name`
    "secretRef": (SECRET, "name"),
    "secretKeyRef": (SECRET, "name"),
    "imagePullSecrets": (SECRET, "name"),
    "nodePublishSecretRef": (SECRET, "name"),
    "persistentVolumeClaim": (VOLUME_CLAIM, "claimName"),
}
"""Where in a pod spec something is named: the key that holds it, its kind, and the field with its name."""
SPEC_FIELDS = {
    "StatefulSet": ("serviceName", SERVICE),
    "DaskWorkerGroup": ("cluster", DASK_CLUSTER),
}
"""Fields of a spec, by the kind of the object."""
ORDINAL = re.compile(r"-[0-9]+$")
# From the first letter on, and bounded: users write the text that this is looked for in.
ADDRESS = re.compile(r"(?<![-a-z0-9])([a-z][-a-z0-9]{0,62})\.([a-z0-9][-a-z0-9]{0,62})\.svc\b")


def references(body: Body) -> frozenset[ObjectRef]:
    """Return the objects of its own namespace that an object refers to.

    Found wherever a pod spec stands, also in kinds of others: volumes, environment, pull secrets, service account, and
    addresses of Services, which a ConfigMap or a Secret may say as well. Beside these what a Role grants by name, what
    a RoleBinding binds, and the fields of `SPEC_FIELDS`. Optional ones are among them: a Secret that may be missing is
    all the same read if it is there.
    """
    refs = {ref for pod in _pod_specs(body) for ref in _of_pod(pod, body["metadata"].get("namespace"))}
    refs |= set(_granted(body)) | set(_bound(body))
    if body["kind"] in SPEC_FIELDS:
        field, kind = SPEC_FIELDS[body["kind"]]
        refs |= set(_named(kind, body["spec"].get(field)))
    return frozenset(refs | set(_scheduler_of(body)) | set(_said_in_data(body)))


def needs(manifests: Iterable[Manifest]) -> dict[ObjectRef, frozenset[ObjectRef]]:
    """Return what must be there before each: what it refers to, and for what runs pods the policies of their network.

    A pod that were made beside its policy would be open until the network's plugin knows that.
    """
    all_of_them = list(manifests)
    policies = frozenset(m.ref for m in all_of_them if m.ref.kind == NETWORK_POLICY.kind)
    return {m.ref: references(m.body) | (policies if any(_pod_specs(m.body)) else frozenset()) for m in all_of_them}


def waves(manifests: Sequence[Manifest]) -> list[list[Manifest]]:
    """Return the manifests in groups that may be made at the same time, what others refer to in an earlier one.

    References to what is not among them say nothing of the order. In a cycle, which nothing here plans, one reference
    is left out of account.
    """
    by_ref = {manifest.ref: manifest for manifest in manifests}
    before = needs(manifests)
    position = {ref: index for index, ref in enumerate(by_ref)}
    sorter = _sorter({ref: set(before[ref] & by_ref.keys()) for ref in by_ref})
    ordered = []
    while sorter.is_active():
        ready = sorter.get_ready()
        ordered.append([by_ref[ref] for ref in sorted(ready, key=position.__getitem__)])
        sorter.done(*ready)
    return ordered


def held_back(
    manifests: Sequence[Manifest], refused: Collection[ObjectRef], live: Collection[ObjectRef] = ()
) -> dict[ObjectRef, ObjectRef]:
    """Return what must not be made, each with the refused object that it refers to, perhaps through others.

    Parameters
    ----------
    refused
        What could not be made, or not be ours. Those that are themselves refused are not in the answer. Given wave by
        wave, those that were held back before must be in here.
    live
        What is there already, and ours: of this, what is to run nothing any more is not held back.
    """
    before = needs(m for m in manifests if not (m.ref in live and _runs_nothing(m.body)))
    held: dict[ObjectRef, ObjectRef] = {}
    causes = {ref: ref for ref in refused}
    while causes:
        waiting = {ref: min(on & causes.keys()) for ref, on in before.items() if on & causes.keys()}
        causes = {ref: causes[cause] for ref, cause in waiting.items() if ref not in held and ref not in refused}
        held |= causes
    return held


def _sorter(graph: dict[ObjectRef, set[ObjectRef]]) -> TopologicalSorter[ObjectRef]:
    while True:
        sorter = TopologicalSorter(graph)
        try:
            sorter.prepare()
        except CycleError as error:
            before, after, *_ = error.args[1]
            graph[after].discard(before)  # one reference less each time: this comes to an end
        else:
            return sorter


def _runs_nothing(body: Body) -> bool:
    """Return whether an object is to run no pod: what stops a session must never wait."""
    spec = body.get("spec", {})
    return spec.get("replicas") == 0 or spec.get("suspend") is True


def _pod_specs(value: Any) -> Iterator[Body]:
    if isinstance(value, Mapping):
        if isinstance(value.get("containers"), list):
            yield value
        else:
            yield from (spec for each in value.values() for spec in _pod_specs(each))
    elif isinstance(value, list):
        yield from (spec for each in value for spec in _pod_specs(each))


def _of_pod(value: Any, namespace: str | None) -> Iterator[ObjectRef]:
    if isinstance(value, str):
        addresses = ADDRESS.findall(value)
        yield from (ObjectRef(*SERVICE, name) for name, in_namespace in addresses if namespace in (None, in_namespace))
    elif isinstance(value, list):
        yield from (ref for each in value for ref in _of_pod(each, namespace))
    elif isinstance(value, Mapping):
        yield from _named(SERVICE_ACCOUNT, value.get("serviceAccountName"))
        for key, each in value.items():
            yield from _pointed_at(key, each)
            yield from _of_pod(each, namespace)


def _pointed_at(key: str, value: Any) -> Iterator[ObjectRef]:
    if key not in IN_PODS:
        return
    kind, field = IN_PODS[key]
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, Mapping):
            yield from _named(kind, each.get(field, each.get("name")))


def _said_in_data(body: Body) -> Iterator[ObjectRef]:
    """Yield what configuration connects to: a pod that mounts it may say that nowhere else."""
    texts = (body.get("data") or {}).values() if body["kind"] in ("ConfigMap", "Secret") else ()
    for text in texts:
        with suppress(ValueError):  # what is no text says no address
            said = base64.b64decode(text).decode() if body["kind"] == "Secret" else text
            yield from _of_pod(said, body["metadata"].get("namespace"))


def _scheduler_of(body: Body) -> Iterator[ObjectRef]:
    """Yield the Service by whose name the Dask operator has a scheduler found, and takes if there is one already."""
    cluster = {"DaskCluster": body["metadata"]["name"], "DaskWorkerGroup": body.get("spec", {}).get("cluster")}
    yield from (ObjectRef(*SERVICE, f"{name}-scheduler") for name in [cluster.get(body["kind"])] if name)


def _named(kind: tuple[str, str], name: Any) -> Iterable[ObjectRef]:
    return [ObjectRef(*kind, name)] if isinstance(name, str) and name else []


def _granted(body: Body) -> Iterator[ObjectRef]:
    """Yield what a Role gives rights on, by name."""
    for rule in body.get("rules") or () if body["kind"] == "Role" else ():
        resources = {resource.partition("/")[0] for resource in rule.get("resources") or ()}
        for kind in GRANTED:
            group = kind.api_version.rpartition("/")[0]
            if {group, "*"} & set(rule.get("apiGroups") or ()) and {kind.plural, "*"} & resources:
                yield from (ref for name in rule.get("resourceNames") or () for ref in _with_maker(kind, name))


def _with_maker(kind: Kind, name: str) -> Iterator[ObjectRef]:
    yield kind.ref(name)
    if kind == POD and ORDINAL.search(name):
        # Whose StatefulSet has the name, theirs is the pod: nobody may get rights on it by a session of that name.
        yield ObjectRef(*STATEFUL_SET, ORDINAL.sub("", name))


def _bound(body: Body) -> Iterator[ObjectRef]:
    """Yield the Role of a RoleBinding, and the service accounts of its own namespace."""
    if body["kind"] != "RoleBinding":
        return
    if body["roleRef"]["kind"] == "Role":
        yield from _named(ROLE, body["roleRef"]["name"])
    namespace = body["metadata"].get("namespace")
    for subject in body.get("subjects") or ():
        if subject["kind"] == "ServiceAccount" and subject.get("namespace", namespace) == namespace:
            yield from _named(SERVICE_ACCOUNT, subject["name"])
