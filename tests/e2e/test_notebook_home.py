"""A notebook's life without a Hub: suspended, resumed and deleted, its user's files as they were."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from af_operator.memory import REFUSED_RETRY
from tests.support.audit import OPERATOR, Audit
from tests.support.tenant import DASK, Tenant, poll

LAB = {"profile": "default", "user": "carla", "mode": "Interactive", "notebook": {}}
HOME = "home-carla"
FILE = "/home/analysis/notes.txt"


def test_files_stay_while_servers_and_their_tokens_come_and_go(tenant: Tenant) -> None:
    uid = tenant.apply("one", LAB)["metadata"]["uid"]
    tenant.wait_condition("one", "NotebookReady")
    token = token_of(tenant, "one")
    in_pod(tenant, "one", "sh", "-c", f"echo kept > {FILE}")
    tenant.patch("one", suspend=True)
    tenant.wait_condition("one", "NotebookReady", "False", reason="Suspended")
    tenant.kubectl("wait", "--for=delete", "pod/one-notebook-0", "--timeout=90s")
    assert phase(tenant) == "Bound"
    tenant.patch("one", suspend=False)
    tenant.wait_condition("one", "NotebookReady")
    assert in_pod(tenant, "one", "cat", FILE) == "kept\n"
    assert token_of(tenant, "one") != token

    other = tenant.apply("two", LAB)["metadata"]["uid"]
    tenant.wait_condition("two", "NotebookReady")
    assert in_pod(tenant, "two", "cat", FILE) == "kept\n", "the sessions of a user share their home"
    assert token_of(tenant, "two") != token

    tenant.kubectl("delete", "analysissession", "one", "two")
    for each in (uid, other):
        poll(lambda each=each: not tenant.children(each), "all of the session is gone", seconds=120)
    assert phase(tenant) == "Bound", "but not the files"


def test_a_volume_of_somebody_else_is_not_mounted(tenant: Tenant) -> None:
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "none",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": HOME}, "spec": claim}
    tenant.kubectl("create", "-f", "-", stdin=json.dumps(body))
    tenant.apply("lab", LAB)
    said = tenant.wait_condition("lab", "NotebookReady", "False", reason="NameConflict")["message"]
    assert "this operator has not made it for user 'carla': rename it or delete it" in said
    assert tenant.kubectl("get", "statefulsets,pods", "-o", "name") == ""
    tenant.kubectl("delete", "persistentvolumeclaim", HOME)
    tenant.wait_condition("lab", "NotebookReady", seconds=REFUSED_RETRY.total_seconds() + 60)


def test_what_is_as_it_should_be_is_not_written_again(tenant: Tenant) -> None:
    tenant.apply("lab", {**LAB, "dask": DASK, "xcache": {"placement": "Session", "size": "1Gi"}})
    tenant.wait_condition("lab", "Ready")
    tenant.wait_condition("lab", "HubRegistered", "False", reason="UnknownUser")  # the last that is heard of it
    before = tenant.session("lab")["status"]
    with Audit() as audit:
        # Each is an event, and a pass.
        for what in ("analysissession/lab", "statefulset/lab-notebook", "role/lab-notebook", "secret/lab-notebook"):
            tenant.kubectl("annotate", what, "example.org/poke=1")
        tenant.kubectl("annotate", "persistentvolumeclaim", HOME, "example.org/poke=1")
        poked(audit, tenant)
        assert audit.writes(OPERATOR, namespace=tenant.namespace) == []
    assert tenant.session("lab")["status"]["conditions"] == before["conditions"]


@pytest.mark.parametrize("user", ["carla", "dora"])
def test_its_user_reaches_it_and_nobody_else(shared_tenant: Tenant, user: str) -> None:
    if not shared_tenant.kubectl("get", "analysissessions", "-o", "name"):
        shared_tenant.apply("lab", LAB)
        shared_tenant.apply("other", {**LAB, "user": "erin"})
        for name in ("lab", "other"):
            shared_tenant.wait_condition(name, "NotebookReady")
    mine = {
        ("get", "secrets/lab-notebook", ""),
        ("create", "pods/lab-notebook-0", "portforward"),
        ("get", "pods/lab-notebook-0", "portforward"),
    }
    others = {(verb, what.replace("lab", "other"), sub) for verb, what, sub in mine}
    more = {
        ("list", "secrets", ""),
        ("get", "secrets/lab-hub", ""),
        ("create", "pods/lab-notebook-0", "exec"),
        ("delete", "pods/lab-notebook-0", ""),
        ("delete", f"persistentvolumeclaims/{HOME}", ""),
        ("patch", "rolebindings/lab-notebook", ""),
    }
    may = {what for what in mine | others | more if allowed(shared_tenant, user, *what)}
    assert may == (mine if user == "carla" else set())


def poked(audit: Audit, tenant: Tenant) -> None:
    """Wait until the operator has had the time for a pass over each event."""
    poll(lambda: len(audit.writes(namespace=tenant.namespace)) >= 5, "the changes are in the audit log")
    end = time.monotonic() + 3
    poll(lambda: time.monotonic() > end or audit.writes(OPERATOR, namespace=tenant.namespace), "passes")


def allowed(tenant: Tenant, user: str, verb: str, what: str, subresource: str) -> bool:
    more = [f"--subresource={subresource}"] if subresource else []
    return "yes" in tenant.kubectl("auth", "can-i", verb, what, f"--as={user}", *more, check=False).split()


def in_pod(tenant: Tenant, name: str, *command: str) -> str:
    return tenant.kubectl("exec", f"{name}-notebook-0", "--container=notebook", "--", *command)


def token_of(tenant: Tenant, name: str) -> str:
    secret: dict[str, Any] = json.loads(tenant.kubectl("get", "secret", f"{name}-notebook", "-o", "json"))
    return str(secret["data"]["JUPYTER_TOKEN"])


def phase(tenant: Tenant) -> str:
    return tenant.kubectl("get", "persistentvolumeclaim", HOME, "-o", "jsonpath={.status.phase}")
