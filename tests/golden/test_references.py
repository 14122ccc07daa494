"""Every object of every case and what refers to it: made in this order, and not made where the name is taken."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from af_operator.model import Manifest, ObjectRef
from af_operator.references import held_back, needs, references, waves
from tests.golden.test_golden import CASES, HERE, planned, pod_specs

Pair = tuple[str, str]
NO_REFERENCE = ("metadata", "selector", "matchLabels", "labels")
"""What has names in it and mounts or grants nothing: whose object it is, and which pods a Service finds."""
STOPPED = {("StatefulSet", "Service")}
NOTEBOOK = STOPPED | {("Role", "Secret"), ("Role", "StatefulSet"), ("RoleBinding", "Role"), ("StatefulSet", "Secret")}
DASK = {("DaskWorkerGroup", "DaskCluster")} | {
    (kind, on) for kind in ("DaskCluster", "DaskWorkerGroup") for on in ("ConfigMap", "Secret")
}
CONFIGURATION = {("Secret", "Service")}
"""A classic driver finds Spark's master by a file."""
NATIVE = {(kind, on) for kind in ("Deployment", "Pod") for on in ("ConfigMap", "Secret")}
NATIVE |= {("Pod", "Service"), ("Job", "Service"), ("Job", "Secret")}
CACHE = {("Deployment", "ConfigMap"), ("Deployment", "Secret"), ("Job", "Service"), ("Job", "Secret")}
REPLICAS = {("Pod", "ConfigMap"), ("Pod", "Secret")}
CONFIGURED = {("StatefulSet", "ConfigMap"), ("DaskWorkerGroup", "ConfigMap")}
EXPECTED: dict[str, set[Pair]] = {
    "config-map-source": set(),
    "finished": {("Role", "ConfigMap"), ("RoleBinding", "Role")},
    "gpu-pool": DASK | {("Job", "Secret")},
    "inference": (NATIVE - {("Job", "Service"), ("Job", "Secret")})
    | NOTEBOOK
    | REPLICAS
    | CONFIGURATION
    | {("Deployment", "Secret"), ("Deployment", "Service"), ("Pod", "PersistentVolumeClaim")},
    "inference-gpu": REPLICAS | {("Job", "Secret"), ("Job", "Service")},
    "inference-url": REPLICAS,
    "minimal": set(),
    "native-gpu-pool": NATIVE,
    "native-zmumu": NATIVE | {("Pod", "ConfigMap"), ("Job", "ConfigMap")},
    "network-allow": {("Job", "NetworkPolicy")},
    "network-closed": {("Job", "NetworkPolicy")},
    "network-facility": NOTEBOOK | {("StatefulSet", "NetworkPolicy")},
    "network-open": NOTEBOOK | {("StatefulSet", "NetworkPolicy")},
    "network-suspended": set(),
    "notebook": NOTEBOOK | DASK | CONFIGURED | {("StatefulSet", "PersistentVolumeClaim")},
    "notebook-hub": NOTEBOOK,
    "notebook-suspended": STOPPED,
    "placed": NATIVE
    | CACHE
    | REPLICAS
    | CONFIGURATION
    | {("Deployment", "Secret"), ("Deployment", "Service"), ("Job", "Secret")},
    "placed-notebook": NOTEBOOK
    | DASK
    | {("Deployment", "ConfigMap"), ("Deployment", "Secret"), ("DaskWorkerGroup", "Service")},
    "session-cache": CACHE,
    "session-cache-decision": REPLICAS | CACHE | {("Deployment", "Service")},
    "spark": NATIVE
    | CACHE
    | CONFIGURATION
    | {("Deployment", "Secret"), ("Deployment", "Service"), ("Pod", "Secret"), ("Pod", "ConfigMap"), ("Job", "Secret")},
    "suspended": CACHE,
    "zmumu": DASK | {("Job", "Secret"), ("Job", "ConfigMap")},
}


@cache
def manifests(case: str) -> list[Manifest]:
    return [Manifest(body) for body in planned(case)]


def edges(case: str) -> dict[ObjectRef, set[ObjectRef]]:
    """Return each planned object with those of the plan that must be there before."""
    before = needs(manifests(case))
    return {ref: set(on & before.keys()) for ref, on in before.items()}


def pairs() -> list[Any]:
    found = [(case, on, ref) for case in CASES for ref, needs in edges(case).items() for on in sorted(needs)]
    return [
        pytest.param(*each, id=f"{each[0]}: {each[2].kind} {each[2].name} on {each[1].kind} {each[1].name}")
        for each in found
    ]


@pytest.mark.parametrize("case", CASES)
def test_the_pairs_of_a_case(case: str) -> None:
    """A case that is not in the table must be put there: read in it what is to be made in which order."""
    assert {(ref.kind, on.kind) for ref, needs in edges(case).items() for on in needs} == EXPECTED[case]


@pytest.mark.parametrize("case", CASES)
def test_no_name_of_another_object_is_overlooked(case: str) -> None:
    given = manifests(case)
    for one in given:
        said = {ref.name for ref in references(one.body)}
        others = {m.ref.name for m in given if m.ref != one.ref}
        assert set(leaves(one.body)) & others <= said, one.ref


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        # What a DaskCluster is called is the session's own name, and containers and volumes have names for themselves.
        own = {"name"} if {"image", "mountPath", "configMap", "emptyDir"} & value.keys() else set()
        own |= {"value"} if value.get("name") == "AF_SESSION" else set()
        said = ((k, v) for k, v in value.items() if k not in NO_REFERENCE and k not in own)
        yield from (found for _, v in said for found in leaves(v))
    elif isinstance(value, list):
        yield from (found for each in value for found in leaves(each))
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize(("case", "on", "ref"), pairs())
def test_what_is_referred_to_is_made_first(case: str, on: ObjectRef, ref: ObjectRef) -> None:
    order = [{m.ref for m in wave} for wave in waves(manifests(case))]
    where = {each: index for index, wave in enumerate(order) for each in wave}
    assert where[on] < where[ref]
    assert sorted(where) == sorted(m.ref for m in manifests(case))


@pytest.mark.parametrize("case", CASES)
def test_where_a_name_is_taken_nothing_that_refers_to_it_is_made_and_all_else_is(case: str) -> None:
    graph = edges(case)
    for taken in graph:
        held = held_back(manifests(case), {taken})
        assert set(held) == {ref for ref in graph if ref != taken and taken in reached(ref, graph)}
        assert set(held.values()) <= {taken}


def reached(ref: ObjectRef, graph: dict[ObjectRef, set[ObjectRef]]) -> set[ObjectRef]:
    """Return all that must be there before an object, also through others."""
    return graph[ref].union(*(reached(on, graph) for on in graph[ref]))


@pytest.mark.parametrize("case", CASES)
def test_nothing_that_runs_a_pod_is_made_before_the_policy_of_its_network(case: str) -> None:
    policies = {m.ref for m in manifests(case) if m.ref.kind == "NetworkPolicy"}
    runs = {m.ref for m in manifests(case) if list(pod_specs(m.body))}
    assert policies or not (HERE / case / "network.yaml").exists()
    order = [{m.ref for m in wave} for wave in waves(manifests(case))]
    made = [index for index, wave in enumerate(order) if wave & policies]
    assert all(index > max(made, default=-1) for index, wave in enumerate(order) if wave & runs)
    assert set(held_back(manifests(case), policies)) >= (runs if policies else set())
