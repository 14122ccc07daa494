"""The control plane without nodes: two side by side, who asks, what is too old, and that nothing is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from local_cluster import processes
from local_cluster.control_plane import ADMIN, GROUPS, OPERATOR, ControlPlane, Options, control_plane
from local_cluster.errors import ClusterError
from local_cluster.progress import Progress

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
SESSIONS = "/apis/analysisfacility.io/v1alpha1/analysissessions"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with control_plane(quiet()) as found:
        yield found


@pytest.fixture(scope="module")
def other() -> Iterator[ControlPlane]:
    with control_plane(quiet(), Options(controllers=True, watch_cache=False)) as found:
        yield found


def quiet() -> Progress:
    return Progress(Console(quiet=True))


def make(plane: ControlPlane, name: str, **metadata: Any) -> dict[str, Any]:
    made: dict[str, Any] = plane.request("POST", CONFIG_MAPS, {"metadata": {"name": name, **metadata}})
    return made


def in_directory(directory: Path) -> list[int]:
    """Return the processes whose command line names a directory."""
    return [p.pid for p in processes.running() if str(directory) in " ".join(processes.command_line(p.pid))]


def test_two_side_by_side_know_nothing_of_each_other(plane: ControlPlane, other: ControlPlane) -> None:
    make(plane, "mine")
    assert plane.request("GET", f"{CONFIG_MAPS}/mine")["metadata"]["name"] == "mine"
    with pytest.raises(ClusterError, match=r'404 .*configmaps ."mine." not found'):
        other.request("GET", f"{CONFIG_MAPS}/mine")


def test_our_kinds_are_served_and_nothing_is_there(plane: ControlPlane) -> None:
    assert plane.request("GET", SESSIONS)["items"] == []
    assert plane.request("GET", "/api/v1/nodes")["items"] == []


def test_each_user_may_work_and_is_known_by_name_in_the_audit_log(plane: ControlPlane) -> None:
    for user in GROUPS:
        plane.request("POST", CONFIG_MAPS, {"metadata": {"name": f"of-{user.replace(':', '.')}"}}, user)
    events = [json.loads(line) for line in plane.audit_log.read_text().splitlines()]
    made = {
        e["user"]["username"]: e["verb"] for e in events if e.get("objectRef", {}).get("name", "").startswith("of-")
    }
    assert made == dict.fromkeys(GROUPS, "create")


def test_a_kubeconfig_is_one_of_its_user_alone(plane: ControlPlane) -> None:
    document = json.loads(plane.kubeconfig(OPERATOR).read_text())
    assert document["users"] == [{"name": OPERATOR, "user": {"token": plane.token(OPERATOR)}}]
    assert plane.token(ADMIN) not in str(document)


def test_what_is_owned_is_collected(other: ControlPlane) -> None:
    owner = make(other, "owner")["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    make(other, "owned", ownerReferences=[reference])
    other.request("DELETE", f"{CONFIG_MAPS}/owner")
    assert processes.poll(lambda: gone(other, "owned"), 30)


def gone(plane: ControlPlane, name: str) -> bool:
    found = plane.request("GET", CONFIG_MAPS)["items"]
    return name not in [each["metadata"]["name"] for each in found]


def test_what_etcd_has_forgotten_is_too_old(other: ControlPlane) -> None:
    for number in range(3):
        make(other, f"page-{number}")
    first = other.request("GET", f"{CONFIG_MAPS}?limit=1")["metadata"]
    for number in range(3):
        make(other, f"later-{number}")
    other.compact()
    with pytest.raises(ClusterError, match=r"410 .*continue parameter is too old"):
        other.request("GET", f"{CONFIG_MAPS}?limit=1&continue={first['continue']}")
    watch = f"{CONFIG_MAPS}?watch=true&timeoutSeconds=5&resourceVersion={first['resourceVersion']}"
    told = other.request("GET", watch)
    assert (told["type"], told["object"]["code"]) == ("ERROR", 410)


def test_nothing_is_left_of_one_that_ran() -> None:
    with control_plane(quiet()) as found:
        assert len(in_directory(found.directory)) == 2
    assert in_directory(found.directory) == []
    assert not found.directory.exists()


def test_one_that_cannot_start_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (
        pytest.raises(ClusterError, match=r"(?s)kube-apiserver ended.*invalid.*event-ttl"),
        control_plane(quiet(), Options(event_seconds=10**12)),
    ):
        raise AssertionError("it has started")
    assert in_directory(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
