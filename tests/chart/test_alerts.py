"""The alerts ask for metrics, labels and jobs that there are, and the page Operate names no others."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from af_operator.__main__ import SessionsByPhase
from af_operator.components import shipped
from af_operator.world import World

from .conftest import CHECKOUT, Objects
from .test_objects import named

PAGE = (CHECKOUT / "docs" / "how-to" / "operate.md").read_text()
FILE = CHECKOUT / "examples" / "operate" / "alerts.yaml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text())["spec"]["groups"] for rule in group["rules"]
]
METRIC = re.compile(r"\b(?:af_operator|process)_\w+")
"""Names of metrics: of ours, and of each process in Python."""
MATCHED = re.compile(r"(\w+)\{([^}]*)\}")


def exposed() -> dict[str, tuple[str, ...]]:
    """Return the process' metrics, with their labels, as its registry has them."""
    found: dict[str, tuple[str, ...]] = {}
    for collector, names in REGISTRY._collector_to_names.items():
        found |= dict.fromkeys(names, tuple(getattr(collector, "_labelnames", ())))
    for family in SessionsByPhase(World(shipped())).collect():
        found[family.name] = ("phase",)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is(rule: dict[str, Any], default: Objects) -> None:
    known, expression = exposed(), rule["expr"]
    asked = set(METRIC.findall(expression))
    assert asked <= known.keys()
    assert asked or "up{" in expression
    service = named(default, "Service", "af-operator-metrics")["metadata"]["name"]
    for metric, matchers in MATCHED.findall(expression):
        pairs = re.findall(r'(\w+)!?=~?"([^"]*)"', matchers)
        assert {label for label, _ in pairs} <= {*known.get(metric, ()), "job"}
        assert all(value == service for label, value in pairs if label == "job")
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        possible = {label for metric in asked for label in known[metric]} | {"le"}
        assert set(re.findall(r"\w+", labels)) <= possible
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")


def test_there_are_alerts_and_each_has_a_name_of_its_own() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names) >= 5
    assert all(f"`{name}`" in PAGE for name in names)


def test_the_page_names_each_of_our_metrics_and_no_other() -> None:
    known = {name for name in exposed() if name.startswith("af_operator_")}
    told = {name for name in METRIC.findall(PAGE) if name.startswith("af_operator_")}
    assert told <= known
    families = {re.sub(r"_(total|created|bucket|sum|count)$", "", name) for name in known}
    assert families == {re.sub(r"_total$", "", name) for name in told}


def test_the_alert_for_memory_knows_the_charts_limit(default: Objects) -> None:
    [container] = named(default, "Deployment", "af-operator")["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "512Mi"
    [rule] = [rule for rule in RULES if rule["alert"] == "AnalysisOperatorMemory"]
    assert "512 * 1024 * 1024" in rule["expr"]
