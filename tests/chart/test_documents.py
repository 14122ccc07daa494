"""What the how-tos say to the chart, and to zero-to-jupyterhub, is what chart, operator and spawner take."""

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml
from traitlets import import_item

from af_client.hub.spawner import AnalysisSessionSpawner
from af_operator.hub import SCOPES
from tests.support.chart import CHART

from .conftest import CHECKOUT, DEFAULT, NAMESPACE, Render

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
HOW_TO = CHECKOUT / "docs" / "how-to"
HUB = {"enabled": True, "namespaces": ["physics"], "existingSecret": "of-the-facility"}
Z2JH = CHECKOUT / "examples" / "z2jh"


def values() -> list[dict[str, Any]]:
    """Return every block of chart values in the how-tos: what has no kind and says something of the Hub."""
    text = "\n".join(page.read_text() for page in sorted(HOW_TO.glob("*.md")))
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [found for block in blocks for found in yaml.safe_load_all(block) if "hub" in found]


def test_there_are_values_in_the_how_tos() -> None:
    assert len(values()) >= 3


@pytest.mark.parametrize("found", values(), ids=lambda v: ",".join(v["hub"]))
def test_the_chart_takes_the_values_of_the_how_tos(found: dict[str, Any]) -> None:
    jsonschema.validate(found | {"image": DEFAULT["image"] | found.get("image", {})}, SCHEMA)


@pytest.mark.parametrize("found", values(), ids=lambda v: ",".join(v["hub"]))
def test_the_spawner_has_the_traits_of_the_how_tos(found: dict[str, Any]) -> None:
    traits = found["hub"].get("config", {}).get("AnalysisSessionSpawner", {})
    assert set(traits) <= set(AnalysisSessionSpawner.class_trait_names(config=True))


def test_the_table_of_traits_is_complete() -> None:
    page = (HOW_TO / "jupyterhub.md").read_text()
    table = page.partition("trait of `AnalysisSessionSpawner`")[2].partition("\n\n")[0]
    own = set(AnalysisSessionSpawner.class_own_traits(config=True))
    assert own <= set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))


def test_zero_to_jupyterhub_gets_the_rights_of_our_own_hub(render: Render) -> None:
    ours = render({**DEFAULT, "image": {**DEFAULT["image"], "hub": "hub"}, "hub": HUB})
    theirs = list(yaml.safe_load_all((Z2JH / "rbac.yaml").read_text()))
    assert rights(theirs, "hub") == rights(ours, "hub")
    assert rights(ours, "hub")


@pytest.mark.parametrize("about", ["secrets", "connections"])
def test_zero_to_jupyterhub_is_held_to_the_same(render: Render, about: str) -> None:
    ours = render({**DEFAULT, "image": {**DEFAULT["image"], "hub": "hub"}, "hub": HUB})
    theirs = list(yaml.safe_load_all((Z2JH / "rbac.yaml").read_text()))
    assert hub_policy(theirs, about, "jupyterhub") == hub_policy(ours, f"hub-{about}", NAMESPACE)


def hub_policy(objects: list[dict[str, Any]], about: str, namespace: str) -> str:
    """Return what a policy on the Hub says, with another name for its namespace."""
    policies = (o for o in objects if o["kind"] == "ValidatingAdmissionPolicy" and about in o["metadata"]["name"])
    return json.dumps(next(policies)["spec"], sort_keys=True).replace(f":{namespace}:hub", ":NAMESPACE:hub")


def rights(objects: list[dict[str, Any]], account: str) -> set[tuple[str, ...]]:
    """Return (namespace or nothing, group, resource, verb) of all that a service account may do."""
    roles = {o["metadata"]["name"]: o["rules"] for o in objects if o["kind"] == "ClusterRole"}
    bindings = [o for o in objects if o["kind"].endswith("RoleBinding") and o["kind"] != "Role"]
    return {
        (binding["metadata"].get("namespace", ""), group, resource, verb)
        for binding in bindings
        if any(subject["name"] == account for subject in binding["subjects"])
        for rule in roles[binding["roleRef"]["name"]]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_zero_to_jupyterhub_gives_the_operator_its_scopes() -> None:
    hub = yaml.safe_load((Z2JH / "values.yaml").read_text())["hub"]
    role = hub["loadRoles"]["af-operator"]
    assert sorted(role["scopes"]) == sorted(SCOPES)
    assert set(role["services"]) == set(hub["services"])
    assert import_item(hub["config"]["JupyterHub"]["spawner_class"]) is AnalysisSessionSpawner
    assert set(hub["config"]["AnalysisSessionSpawner"]) <= set(AnalysisSessionSpawner.class_trait_names(config=True))
