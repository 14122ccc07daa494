"""The demo as a job of GitHub Actions: known by its own token, which ends before the run does."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_cluster import facility as demo
from local_cluster.settings import CHECKOUT, KUBECONFIG
from tests.support import ci_jobs
from tests.support.ci_jobs import Job
from tests.support.issuer import SECRET, Issuer, issuing
from tests.support.tenant import ENVIRONMENT, Tenant, poll

EXAMPLE = CHECKOUT / "examples" / "zmumu"
USER = "github:physics/zmumu"
RELOAD_SECONDS = 120
"""The API server looks at its configuration at least once a minute."""
LIFETIME = 40
"""Seconds that a token lives; `af` asks for the next one half a minute before."""


@pytest.fixture(scope="module")
def issuer(facility: demo.Facility) -> Iterator[Issuer]:
    """An issuer on this machine, at the address from which the cluster's node sees it, that the API server trusts."""
    with issuing(_address(demo.node_address(facility.kubectl))) as found:
        file = _authentication()
        before = file.read_text()
        # In place: where it is mounted, another file would not be seen.
        file.write_text(found.authentication())
        try:
            poll(lambda: _known(found.token()), f"the API server trusts the issuer ({file})", RELOAD_SECONDS)
            yield found
        finally:
            file.write_text(before)


def _address(node: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((node, 9))  # sends nothing
        return str(way.getsockname()[0])


def _authentication() -> Path:
    argv = [sys.executable, "-m", "local_cluster", "authentication"]
    found = Path(subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip())
    assert found.exists(), f"{found}: this cluster is older than its code, make it anew (make cluster-down cluster)"
    return found


def _known(token: str) -> bool:
    cluster = _cluster()
    argv = ["kubectl", "auth", "whoami", "--output=json", f"--server={cluster['server']}", "--kubeconfig=/dev/stdin"]
    user = {"name": "u", "user": {"token": token}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    config = {"clusters": [{"name": "c", "cluster": cluster}], "users": [user], "contexts": [context]}
    text = json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "x", **config})
    done = subprocess.run(argv, input=text, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode == 0 and json.loads(done.stdout)["status"]["userInfo"]["username"] == USER


def _cluster() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(KUBECONFIG.read_text())["clusters"][0]["cluster"]
    return found


@pytest.fixture
def job(tenant: Tenant, issuer: Issuer, tmp_path: Path) -> Job:
    """The example's job, in a checkout of the demo's analysis; its repository may use sessions in the namespace."""
    tenant.kubectl("create", "rolebinding", "ci", "--clusterrole=analysisfacility-user", f"--user={USER}")
    authority = tmp_path / "ca.crt"
    authority.write_bytes(base64.b64decode(_cluster()["certificate-authority-data"]))
    folder = ci_jobs.checked_out(tmp_path / "checkout", _cluster()["server"], authority, tenant.namespace)
    for file in EXAMPLE.iterdir():
        shutil.copy(file, folder)
    (folder / ".ci" / "issuer.crt").write_text(issuer.certificate)
    given = {
        **issuer.job("/github"),
        "SSL_CERT_FILE": str(folder / ".ci" / "issuer.crt"),
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_RUN_ID": str(int(time.time())),
        "GITHUB_RUN_ATTEMPT": "1",
    }
    return Job(ci_jobs.github(), folder, given)


def test_a_job_does_the_demo_and_leaves_nothing(tenant: Tenant, issuer: Issuer, job: Job) -> None:
    issuer.lifetime = LIFETIME
    with job.begun() as script:
        poll(lambda: _there(tenant, job.session) or script.poll() is not None, "the session is created")
        assert script.poll() is None, script.communicate()
        body = tenant.session(job.session)
        out, err = script.communicate(timeout=ci_jobs.RUN_SECONDS)
    assert script.returncode == 0, err
    job.clean_up()
    assert body["spec"]["user"] == USER
    assert json.loads((job.checkout / "results" / "zmumu.json").read_text())["selected"] == 2004
    # It has asked for more than one, and no other process was told any.
    assert issuer.asked > 1
    assert SECRET not in out + err
    assert "eyJ" not in out + err
    poll(lambda: not _there(tenant, job.session), "the session is gone")
    poll(lambda: not tenant.children(body["metadata"]["uid"]), "nothing of it is left")


def _there(tenant: Tenant, name: str) -> bool:
    return name in tenant.kubectl("get", "analysissessions", "--output=name")
