"""A component that the chart has never heard of: what `make generate` writes for it is all that it needs."""

from __future__ import annotations

import shutil

import pytest
import yaml

from af_operator.crdgen import operator_rules
from af_operator.model import Kind
from tests.support import chart
from tests.support.components import relay
from tests.support.components.relay.broker import DISRUPTION_BUDGET
from tests.support.relayed import everything as components

from .conftest import DEFAULT, NAMESPACE, Objects
from .test_objects import named
from .test_rbac import WRITES, rights, rules_of

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """The chart, with the rules that are generated where the component is one of the operator's."""
    own = tmp_path_factory.mktemp("chart") / chart.CHART.name
    shutil.copytree(chart.CHART, own)
    rules = operator_rules((k for c in components() for k in c.KINDS), (k for c in components() for k in c.SHARED))
    (own / "generated" / "operator-rules.yaml").write_text(yaml.safe_dump(rules))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chart, "CHART", own)
        return chart.rendered(DEFAULT, NAMESPACE)


def test_the_operator_may_make_what_it_makes_and_no_more(objects: Objects, default: Objects) -> None:
    granted, before = rights(rules_of(objects, "af-operator")), rights(rules_of(default, "af-operator"))
    assert {_of(kind) for kind in relay.KINDS} <= {(group, plural) for group, plural, _, _ in granted}
    verbs = {verb for group, plural, _, verb in granted if (group, plural) == _of(DISRUPTION_BUDGET)}
    assert verbs == {"get", "list", "watch", *WRITES} - {"update", "deletecollection"}
    assert {(group, plural) for group, plural, _, _ in granted - before} == {_of(DISRUPTION_BUDGET)}


@pytest.mark.parametrize("policy", ["af-operator-session-children", "af-operator-own-objects"])
def test_admission_guards_and_bounds_it(objects: Objects, default: Objects, policy: str) -> None:
    assert {_of(kind) for kind in relay.KINDS} <= _covered(objects, policy)
    assert _of(DISRUPTION_BUDGET) not in _covered(default, policy)


def _of(kind: Kind) -> tuple[str, str]:
    return kind.api_version.rpartition("/")[0], kind.plural


def _covered(objects: Objects, policy: str) -> set[tuple[str, str]]:
    rules = named(objects, "ValidatingAdmissionPolicy", policy)["spec"]["matchConstraints"]["resourceRules"]
    return {(group, resource) for rule in rules for group in rule["apiGroups"] for resource in rule["resources"]}
