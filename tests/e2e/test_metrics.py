"""What an admin's Prometheus sees, and that a session's doings show up in it."""

from __future__ import annotations

import re

import pytest

from local_cluster.facility import SYSTEM_NAMESPACE
from tests.support.tenant import HEADLESS, Tenant, kubectl

PROXY = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/services/af-operator-metrics:8080/proxy"


def scrape() -> dict[str, float]:
    lines = kubectl("get", "--raw", f"{PROXY}/metrics").splitlines()
    found = (re.fullmatch(r"(af_operator\S*(?:\{.*\})?) (\S+)", line) for line in lines)
    return {m[1]: float(m[2]) for m in found if m}


@pytest.mark.alone  # it counts what the operator does for whomever
def test_the_metrics_tell_of_sessions_passes_and_requests(tenant: Tenant) -> None:
    assert kubectl("get", "--raw", f"{PROXY}/healthz") == "ok"
    assert kubectl("get", "--raw", f"{PROXY}/readyz") == "ok"
    before = scrape()
    tenant.apply("one", HEADLESS)
    tenant.wait_condition("one", "RunComplete", reason="Succeeded")
    after = scrape()

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown("af_operator_pass_seconds_count") >= 3
    assert grown('af_operator_api_requests_total{code="2xx",kind="jobs",verb="POST"}') == 1
    assert grown('af_operator_api_requests_total{code="2xx",kind="analysissessions",verb="PATCH"}') >= 2
    assert after['af_operator_sessions{phase="Succeeded"}'] >= 1
    assert "af_operator_queue_depth" in after
    failures = {k: v for k, v in after.items() if k.startswith("af_operator_pass_failures_total")}
    assert not failures.get('af_operator_pass_failures_total{error="TypeError"}'), failures
