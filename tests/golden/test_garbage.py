"""Whatever others write into what belongs to a session: its pass ends, and with a status that the API server takes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from af_operator import capacity, drift, names, plan, registration, status
from af_operator.capacity import Node
from af_operator.components import shipped
from af_operator.components.dask.dask_kubernetes.replicas import HANDLED
from af_operator.model import Body
from af_operator.observed import Children, Observed
from tests.support.garbage import Keys, Read, changed, changes
from tests.support.lived import CASES, NOW, Life, lives

CRDS = Path(__file__).parent.parent.parent / "crds"
ROUNDS = 40
NODES = [Node("n1", {"example.org/gpus": "true"}, {"nvidia.com/gpu": 8}, True)]
Place = tuple[str, str, Keys]
"""A stage of life, whose kind of object it is, and where in it: the same in every case."""


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    checker = jsonschema.FormatChecker(formats=())
    checker.checks("date-time", raises=ValueError)(datetime.fromisoformat)
    crd = yaml.load((CRDS / f"analysisfacility.io_{kind}.yaml").read_text(), yaml.CSafeLoader)
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    return jsonschema.Draft202012Validator(schema, format_checker=checker)


@cache
def taken(kind: str, text: str) -> None:
    """Raise what the API server has against a status; most are what they were before."""
    validator(kind).validate(json.loads(text))


def a_pass(life: Life) -> dict[str, Any]:
    """Go through what a pass does, but for its writes; return the status that it would write."""
    todo = plan.build(shipped(), life.session, life.profile, life.observed, NOW)
    if todo.log_wanted:
        todo = plan.build(shipped(), life.session, life.profile, replace(life.observed, log_tail="a line"), NOW)
    todo = replace(todo, registration=registration.decide(life.session, todo, life.observed))
    return status.compute(life.session, todo, [], NOW)


def free(life: Life) -> dict[str, Any]:
    """Return the status of the profile."""
    pods = [b for b in life.observed.children if b["kind"] == "Pod"]
    return capacity.status(life.profile.spec, NODES, filter(None, map(capacity.parse_pod, pods)))


def bodies(observed: Observed) -> Iterator[tuple[str, int, Body]]:
    for field in ("children", "shared"):
        yield from ((field, index, body) for index, body in enumerate(getattr(observed, field)))


def looked_at(life: Life, field: str, index: int) -> set[Keys]:
    """Return what a pass looks at in one object, but for finding out whether it is as we want it."""
    seen: set[Keys] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift, "needs_apply", lambda *_: False)
        within = instead(life, field, index, Read(getattr(life.observed, field)[index], seen))
        a_pass(within)
        free(within)
    return seen


def instead(life: Life, field: str, index: int, body: Body) -> Life:
    there = list(getattr(life.observed, field))
    there[index] = body
    made = Children(there) if field == "children" else tuple(there)
    return replace(life, observed=replace(life.observed, **{field: made}))


def place(life: Life, stage: str, body: Body, path: Keys) -> Place:
    labels = body["metadata"].get("labels", {})
    whose = [body["kind"], labels.get(names.COMPONENT, ""), labels.get("dask.org/component", "")]
    if body["kind"] == "ConfigMap":
        whose.append(body["metadata"]["name"].removeprefix(life.session.name))
    return stage, "/".join(whose), tuple("*" if isinstance(key, int) else key for key in path)


@cache
def places() -> dict[str, list[tuple[str, str, int, Keys]]]:
    """Return by case the values to be changed: each place in the first case that has it."""
    seen: set[Place] = set()
    found: dict[str, list[tuple[str, str, int, Keys]]] = {case: [] for case in CASES}
    for case in CASES:
        for stage, life in lives(case).items():
            for field, index, body in bodies(life.observed):
                for path in sorted(looked_at(life, field, index), key=str):
                    where = place(life, stage, body, path)
                    if where not in seen and changes(body, path):
                        seen.add(where)
                        found[case].append((stage, field, index, path))
    return found


def trouble(life: Life) -> str | None:
    """Return what goes wrong in a pass, or None."""
    try:
        taken("analysissessions", json.dumps(a_pass(life), allow_nan=False))
        taken("analysisprofiles", json.dumps(free(life), allow_nan=False))
    except Exception as error:  # noqa: BLE001 - all of them are wanted, not the first
        return repr(error)[:200]
    return None


@pytest.mark.parametrize("case", CASES)
def test_no_garbage_stops_a_pass(case: str) -> None:
    stages, failed = lives(case), []
    for stage, field, index, path in places()[case]:
        life = stages[stage]
        body = getattr(life.observed, field)[index]
        for change in changes(body, path):
            wrong = trouble(instead(life, field, index, changed(body, change)))
            failed += [f"{stage}: {body['kind']} {body['metadata']['name']}: {change}: {wrong}"] if wrong else []
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("case", CASES)
def test_nor_does_garbage_in_many_places_at_once(case: str) -> None:
    dice, failed = random.Random(case), []
    for stage, life in lives(case).items():
        paths = {(f, i): sorted(looked_at(life, f, i), key=str) for f, i, _ in bodies(life.observed)}
        for _ in range(ROUNDS if paths else 0):
            within, done = life, []
            for field, index in dice.choices(list(paths), k=4):
                body = getattr(within.observed, field)[index]
                possible = changes(body, dice.choice(paths[field, index])) if paths[field, index] else []
                if possible:
                    done.append(dice.choice(possible))
                    within = instead(within, field, index, changed(body, done[-1]))
            wrong = trouble(within)
            failed += [f"{stage}: {'; '.join(map(str, done))}: {wrong}"] if wrong else []
    assert not failed, "\n".join(failed)


def test_the_garbage_gets_to_where_it_is_read() -> None:
    """What passes looked for once, and stumbled over, is among what is changed."""
    found = set()
    for case, all_of_it in places().items():
        stages = lives(case)
        for stage, field, index, path in all_of_it:
            said = ".".join("*" if isinstance(key, int) else key for key in path)
            found.add((getattr(stages[stage].observed, field)[index]["kind"], said))
    for kind, path in [
        ("ConfigMap", "data.record"),
        ("ConfigMap", "data"),
        ("DaskWorkerGroup", f"metadata.annotations.{HANDLED}"),
        ("DaskWorkerGroup", f"metadata.labels.{names.POOL}"),
        ("DaskWorkerGroup", "spec.worker.replicas"),
        ("DaskWorkerGroup", "spec.worker.spec.containers.*.resources.limits.nvidia.com/gpu"),
        ("Deployment", "spec.replicas"),
        ("Deployment", "spec.template.spec.containers.*.image"),
        ("Pod", f"metadata.labels.{names.WORKER_GROUP}"),
        ("Pod", "status.phase"),
        ("Job", "status.conditions.*.lastTransitionTime"),
        ("Pod", "spec.containers.*.resources.limits.nvidia.com/gpu"),
        ("Pod", "status.containerStatuses.*.state.terminated.message"),
        ("Pod", "status.containerStatuses.*.state.terminated.exitCode"),
        ("Secret", "data.JUPYTER_TOKEN"),
    ]:
        assert (kind, path) in found, (kind, path)
