"""What is asked of docker, kind and kubectl, in which order. Stand-ins answer: kind itself needs an engine."""

import json
import os
from pathlib import Path

import pytest

from local_cluster import kind
from local_cluster.kind import KindCluster
from local_cluster.progress import Progress
from local_cluster.settings import VOLUME_COUNT

# Each notes how it was called. Containers that "run" are lines of a file.
RECORD = '#!/bin/sh\necho "$(basename "$0") $*" >> "$WORLD/calls"\ntouch "$WORLD/running"\n'
DOCKER = """\
case "$1" in
ps) cat "$WORLD/running" ;;
run) echo af-local-registry >> "$WORLD/running" ;;
rm) sed -i /af-local-registry/d "$WORLD/running" ;;
exec) cat > /dev/null ;;
esac
"""
KIND = """\
case "$1" in
create) echo af-local-control-plane >> "$WORLD/running"; touch "$WORLD/kubeconfig" ;;
delete) sed -i /af-local-control-plane/d "$WORLD/running" ;;
esac
"""
NODE = {
    "metadata": {"name": kind.NODE},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}
KUBECTL = f"""\
case "$*" in
*"get --raw=/readyz"*) printf ok ;;
*"get nodes"*) echo '{json.dumps({"items": [NODE]})}' ;;
*"get persistentvolumes"*) echo '{json.dumps({"items": []})}' ;;
*apply*) cat > "$WORLD/applied" ;;
esac
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, body in {"docker": DOCKER, "kind": KIND, "kubectl": KUBECTL, "helm": ""}.items():
        (programs / name).write_text(RECORD + body)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("WORLD", str(tmp_path))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(kind, "LOCAL", tmp_path / "local")
    monkeypatch.setattr(kind, "KUBECONFIG", tmp_path / "kubeconfig")
    authentication = tmp_path / "local" / "kind" / "authentication" / "authentication.yaml"
    monkeypatch.setattr(kind, "AUTHENTICATION", authentication)
    monkeypatch.setattr(kind, "AUDIT_LOG", tmp_path / "local" / "kind" / "audit" / "audit.log")
    monkeypatch.setattr(kind.binaries, "link", lambda targets: _link(targets, tmp_path / "local" / "bin"))  # type: ignore[attr-defined]
    return tmp_path


def _link(targets: dict[str, Path], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, target in targets.items():
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(target)


def calls(world: Path, program: str) -> list[str]:
    lines = (world / "calls").read_text().splitlines()
    return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]


def test_up_makes_the_cluster_its_registry_and_what_the_node_offers(world: Path) -> None:
    cluster = KindCluster(Progress())
    cluster.up()
    assert cluster.running()
    assert cluster.status() == {kind.NODE: True, kind.REGISTRY: True}
    assert [call.split()[0] for call in calls(world, "kind")] == ["delete", "create"]
    assert (world / "local" / "kind" / "audit").is_dir(), "else docker would make it, as root"
    assert "AuthenticationConfiguration" in kind.AUTHENTICATION.read_text()
    kubectl = "\n".join(calls(world, "kubectl"))
    assert "analysisfacility.io/node-pool-gpu=true" in kubectl
    assert '"nvidia.com/gpu": "2"' in kubectl
    assert (world / "applied").read_text().count('"PersistentVolume"') == VOLUME_COUNT


def test_a_second_up_makes_nothing_anew(world: Path) -> None:
    KindCluster(Progress()).up()
    KindCluster(Progress()).up()
    assert len([call for call in calls(world, "kind") if call.startswith("create")]) == 1
    assert len([call for call in calls(world, "docker") if call.startswith("run")]) == 1


def test_down_twice_is_fine(world: Path) -> None:
    cluster = KindCluster(Progress())
    cluster.up()
    cluster.down()
    cluster.down()
    assert cluster.status() == {kind.NODE: False, kind.REGISTRY: False}
    assert not cluster.running()
    assert not (world / "kubeconfig").exists()


def test_half_a_cluster_is_made_anew(world: Path) -> None:
    """The container runs, but nothing answers: kind was interrupted."""
    (world / "running").write_text(f"{kind.NODE}\n")
    KindCluster(Progress()).up()
    assert [call.split()[0] for call in calls(world, "kind")] == ["delete", "create"]
