"""Every object of every golden case that another refers to, as somebody else's: on an API server, all at once.

The cases are made by the components, and what refers to what is found in them: nothing here is written by hand but how
a foreign object is to look. What is found in the text alone is in ``tests/golden/test_said_names.py``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from af_operator import plan, references
from af_operator.components import shipped
from af_operator.model import SERVICE, Manifest, ObjectRef, ref_of
from af_operator.world import SESSION
from local_cluster.control_plane import ControlPlane
from local_cluster.processes import poll
from tests.golden.test_golden import CASES, NOW, load, planned
from tests.support.lived import _given
from tests.support.proxied_operator import ProxiedOperator, proxied
from tests.support.site import KINDS, Body, Site

END_SECONDS = 180
FOREIGN = {"app": "foreign"}
TOKEN = re.compile(r"-worker-[0-9a-f]{10}$")
"""The end of a worker's name, which nobody can foretell."""


class Taken(NamedTuple):
    """An object that a case makes, or has made for it, in the place of which there is another one."""

    case: str
    ref: ObjectRef

    @property
    def namespace(self) -> str:
        return f"taken-{ALL.index(self)}"

    def __str__(self) -> str:
        return f"{self.case}: {self.ref.kind} {self.ref.name}"


@cache
def graph(case: str) -> dict[ObjectRef, frozenset[ObjectRef]]:
    """Return all objects of a case, each with what must be there before it."""
    return references.needs(map(Manifest, planned(case)))


def needs(case: str, taken: ObjectRef) -> set[ObjectRef]:
    """Return what refers to an object, perhaps through others."""
    found, before = {taken}, set[ObjectRef]()
    while found != before:
        before = set(found)
        found |= {ref for ref, on in graph(case).items() if on & found}
    return found - {taken}


def all_taken() -> Iterator[Taken]:
    for case in CASES:
        life = _given(case)
        todo = plan.build(shipped(), life.session, life.profile, life.observed, NOW)
        if life.session.spec.suspend or todo.finished:
            continue  # at its beginning, which is all that there is here, it has nothing of that yet
        makes = {*graph(case), *(ref for ref in todo.lent if ref.kind == SERVICE.kind)}
        referred_to = {ref for on in graph(case).values() for ref in on}
        yield from (Taken(case, ref) for ref in sorted(makes & referred_to))


ALL = list(all_taken())


def foreign(taken: Taken) -> Body:
    """Return an object of the same name that has nothing of the session's."""
    made = next((body for body in planned(taken.case) if ref_of(body) == taken.ref), None)
    body = copy.deepcopy(made) if made else {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1}]}}
    body["metadata"] = {"name": taken.ref.name, "namespace": taken.namespace, "labels": FOREIGN}
    spec: dict[str, Any] = body.get("spec", {})
    if taken.ref.kind == "Service":
        spec["selector"] = FOREIGN
    if "template" in spec:
        spec["selector"] = {"matchLabels": FOREIGN}
        spec["template"]["metadata"]["labels"] = FOREIGN
    return body


def profile(case: str) -> Body:
    body: Body = load(case, "profile.yaml") or load(".", "profile.yaml")
    return {**body, "metadata": {"name": f"case-{case}"}}


def session(taken: Taken) -> Body:
    body: Body = load(taken.case, "session.yaml")
    metadata = {"name": body["metadata"]["name"], "namespace": taken.namespace}
    return {**body, "metadata": metadata, "spec": {**body["spec"], "profile": f"case-{taken.case}"}}


@pytest.fixture(scope="module")
def found(
    plane: ControlPlane, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, dict[ObjectRef, Body]]]:
    """Return what there is in each namespace when each session has told of what is taken."""
    site.open_namespaces(*(taken.namespace for taken in ALL))
    site.create(map(profile, sorted({taken.case for taken in ALL})))
    site.create(map(foreign, ALL))
    with proxied(plane, tmp_path_factory.mktemp("taken")) as operator:
        operator.process.start()
        operator.process.wait_ready()
        site.create(map(session, ALL))
        await_told(site, operator)
        yield stored(site)


def await_told(site: Site, operator: ProxiedOperator) -> None:
    """Wait until every session has a condition that names what it could not make, and nothing is made any more."""
    seen: list[int] = [-1]

    def told() -> bool:
        objects = site.objects()
        seen.append(len(objects))
        return seen[-1] == seen[-2] and not untold(stored(site))

    assert poll(told, END_SECONDS, 2.0), (untold(stored(site)), operator.process.log)


def untold(there: dict[str, dict[ObjectRef, Body]]) -> list[str]:
    return [str(taken) for taken in ALL if not conflicts(there, taken)]


def conflicts(there: dict[str, dict[ObjectRef, Body]], taken: Taken) -> list[str]:
    sessions = (body for ref, body in there.get(taken.namespace, {}).items() if ref.kind == SESSION.kind)
    conditions = (c for body in sessions for c in body.get("status", {}).get("conditions", ()))
    return [c["message"] for c in conditions if c["reason"] == "NameConflict" and taken.ref.name in c["message"]]


def stored(site: Site) -> dict[str, dict[ObjectRef, Body]]:
    there: dict[str, dict[ObjectRef, Body]] = {}
    for ref, body in site.objects().items():
        kind = next(kind for kind in KINDS if kind.plural == ref.plural)
        there.setdefault(ref.namespace, {})[plain_name(kind.ref(ref.name))] = body
    return there


def plain_name(ref: ObjectRef) -> ObjectRef:
    return ref._replace(name=TOKEN.sub("-worker", ref.name))


def test_there_is_something_to_take_of_every_component() -> None:
    planned_by = {body["metadata"]["labels"]["analysisfacility.io/component"] for c in CASES for body in planned(c)}
    taken_of = {
        body["metadata"]["labels"]["analysisfacility.io/component"]
        for taken in ALL
        for body in planned(taken.case)
        if ref_of(body) == taken.ref
    }
    assert planned_by == taken_of == {component.NAME for component in shipped()}


@pytest.mark.parametrize("taken", ALL, ids=str)
def test_nothing_is_made_that_refers_to_what_is_somebody_elses(
    found: dict[str, dict[ObjectRef, Body]], taken: Taken
) -> None:
    there = found[taken.namespace]
    assert conflicts(found, taken)
    left = there[taken.ref]["metadata"]
    assert left["labels"] == FOREIGN
    assert "ownerReferences" not in left
    refers = {plain_name(ref) for ref in needs(taken.case, taken.ref)}
    assert there.keys() & refers == set()
    free = {plain_name(ref) for ref in graph(taken.case)} - refers - {taken.ref}
    assert {ref for ref in free if ref.kind in ("Secret", "ConfigMap", "Service")} <= there.keys(), "all else is"
