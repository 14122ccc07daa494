"""Whatever an object says by name is known as a reference, or somebody vouches for it: found in the text alone.

What is referred to is looked for here as a person would: any word of an object that is the name of another one. So a
component that says a name in a way that `references` does not know fails here, as soon as it has a golden case.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from af_operator import names, plan
from af_operator.components import shipped
from af_operator.model import Body, ObjectRef, ref_of
from af_operator.references import references
from tests.golden.test_golden import CASES, NOW, load, planned
from tests.support.lived import _given

WORD = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
NO_REFERENCE = ("metadata", "selector", "matchLabels", "labels")
"""What has names in it and refers to nothing: whose an object is, and which pods a Service finds."""


def words(body: Body) -> set[str]:
    """Return every word that could be a name, in all texts of an object, and in what a Secret holds."""
    held = map(decoded, (body.get("data") or {}).values()) if body["kind"] == "Secret" else ()
    return {word for text in (*texts(body), *held) for word in WORD.findall(text)}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        # A session's own name, which its DaskCluster has as well, is said to programs as such.
        said = {} if value.get("name") == "AF_SESSION" else value
        yield from (text for key, each in said.items() if key not in NO_REFERENCE for text in texts(each))
    elif isinstance(value, list):
        yield from (text for each in value for text in texts(each))
    elif isinstance(value, str):
        yield value


def decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        return ""


def overlooked(bodies: list[dict[str, Any]]) -> list[str]:
    """Return which objects say the name of another one that is not among their references."""
    called: dict[str, set[ObjectRef]] = {}
    for body in bodies:
        called.setdefault(body["metadata"]["name"], set()).add(ref_of(body))
    found = []
    for body in bodies:
        known = {ref.name for ref in references(body)}
        others = {name for name, refs in called.items() if refs - {ref_of(body)}}
        own = {c["name"] for c in containers(body)} | {body["metadata"]["labels"].get(names.SESSION_NAME, "")}
        found += [f"{body['kind']} {body['metadata']['name']}: {n}" for n in (words(body) & others) - known - own]
    return found


def containers(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield from [value] if "image" in value and "name" in value else []
        yield from (found for each in value.values() for found in containers(each))
    elif isinstance(value, list):
        yield from (found for each in value for found in containers(each))


@pytest.mark.parametrize("case", CASES)
def test_no_name_that_is_said_is_overlooked(case: str) -> None:
    assert overlooked(planned(case)) == []


WAYS: list[Any] = [
    lambda body, name: body.update(mounts={"secretStore": name}),
    lambda body, name: body.update(spec={"connect": f"amqp://{name}:5672/"}),
    lambda body, name: body.update(data={"broker.conf": f"url = amqp://{name}/"}),
]


@pytest.mark.parametrize("way", WAYS, ids=["a field", "an address", "configuration"])
def test_a_component_that_says_a_name_in_a_way_of_its_own_would_fail(way: Any) -> None:
    bodies = copy.deepcopy(planned("native-zmumu"))
    config = next(body for body in bodies if body["kind"] == "ConfigMap")
    service = next(body for body in bodies if body["kind"] == "Service")
    way(config, service["metadata"]["name"])
    assert overlooked(bodies) == [f"ConfigMap {config['metadata']['name']}: {service['metadata']['name']}"]


@cache
def vouched(case: str) -> set[ObjectRef]:
    """Return what a case may refer to and does not make: what components borrow, and what the catalogue names."""
    life = _given(case)
    todo = plan.build(shipped(), life.session, life.profile, life.observed, NOW)
    spec = life.profile.spec.model_dump(by_alias=True)
    claims = {claim for model in (spec.get("inference") or {}).get("models") or () for claim in claims_of(model)}
    pulls = {ObjectRef("v1", "Secret", name) for name in spec.get("imagePullSecrets") or ()}
    return {*todo.lent, *claims, *pulls, *map(ref_of, load(case, "shared.yaml", []))}


def claims_of(value: Any) -> Iterator[ObjectRef]:
    if isinstance(value, dict):
        yield from [ObjectRef("v1", "PersistentVolumeClaim", value["claimName"])] if value.get("claimName") else []
        yield from (found for each in value.values() for found in claims_of(each))


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_referred_to_that_nobody_vouches_for(case: str) -> None:
    bodies = planned(case)
    made, read = {ref_of(body) for body in bodies}, {ref_of(body) for body in load(case, "read.yaml", [])}
    running = [body for body in bodies if body.get("spec", {}).get("replicas") != 0]  # the others mount nothing
    strange = {ref for body in running for ref in references(body) if not own_pod(ref, body)}
    assert strange - made - read - vouched(case) == set()


def own_pod(ref: ObjectRef, role: Body) -> bool:
    """Return whether it is the pod that a Role grants: its StatefulSet is referred to as well."""
    return ref.kind == "Pod" and role["kind"] == "Role"


@pytest.mark.parametrize("case", CASES)
def test_every_address_is_of_the_sessions_own_pods(case: str) -> None:
    """Anybody can put a label of the Dask operator's on a pod, or one of ours but for the session's uid."""
    selectors = [s for body in planned(case) for s in selectors_of(body)]
    assert [selector.get(names.SESSION_UID) for selector in selectors] == [_given(case).session.uid] * len(selectors)


def selectors_of(body: Body) -> Iterator[dict[str, str]]:
    if body["kind"] == "Service":
        yield body["spec"]["selector"]
    elif body["kind"] == "DaskCluster":
        yield body["spec"]["scheduler"]["service"]["selector"]
