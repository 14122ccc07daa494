"""A session with a cache does with `root://` what one without does: it writes, and it talks to other servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from local_cluster.settings import CHECKOUT
from tests.e2e.test_xcache import host, origin
from tests.support.people import af
from tests.support.tenant import DASK, ENVIRONMENT, HEADLESS, Body, Tenant

__all__ = ["origin"]

PROGRAM = (CHECKOUT / "tests/support/programs/past_the_cache.py").read_text()
OTHER = "root://origin.af-storage.svc.cluster.local:1094"
GONE, EXISTS, REFUSED = "error 3011", "error 3018", "error 3005"
DONE = {
    "new": "new",
    "new again": EXISTS,
    "update": "New",
    "refused": [REFUSED, GONE],
    "uproot": [[0, 1, 2], [0, 1]],
    "fsspec": [["open.txt"], "open", GONE],
    "copy": ["copied", "copied"],
    "paths": ["first", GONE, "first", "fi", GONE],
    "worker": ["worker", "worker"],
    "again": [["one  "] * 4, ["two  "] * 4, ["three"] * 4],
    "other": ["other", ["copied", "copied"]],
    "same path": ["origin", "other"],
    "alias": ["alias", "alias"],
}

pytestmark = pytest.mark.timeout(300)


# Each placement with one of the two releases of XRootD's client that the images have.
@pytest.mark.parametrize(
    ("placement", "image", "by_root"), [("Sidecar", "analysis", []), ("Session", "root", ["written"])]
)
def test_writes_and_other_servers(
    tenant: Tenant, origin: str, placement: str, image: str, by_root: list[str], tmp_path: Path
) -> None:
    address = tenant.kubectl("get", "service", "origin", "-o", "jsonpath={.spec.clusterIP}")
    servers = {"ORIGIN": f"root://{host(tenant)}:1094", "OTHER": OTHER, "ALIAS": f"root://{address}:1094"}
    spec: Body = {
        **HEADLESS,
        "profile": origin,
        "image": image,
        "run": {"command": ["python", "main.py"], "source": {"files": {"main.py": PROGRAM}}},
        "dask": DASK,
        "xcache": {"placement": placement, "size": "1Gi"},
        "env": [{"name": name, "value": value} for name, value in servers.items()],
    }
    tenant.apply("writes", spec)
    tenant.wait_condition("writes", "RunComplete", reason="Succeeded", seconds=240)
    assert af("results", "writes", "-n", tenant.namespace, "-o", str(tmp_path), environment=ENVIRONMENT).returncode == 0
    done: dict[str, Any] = json.loads((tmp_path / "done.json").read_text())
    assert done == DONE | {"root": by_root}
