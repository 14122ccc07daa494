"""kind itself reads kind-config.yaml here; the engine behind it is a stand-in that refuses to run containers."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from local_cluster import binaries, kind
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT, CLUSTER, POD_CIDR, SERVICE_CIDR

# What kind asks before it starts containers; "run" is past all parsing and validation.
DOCKER = """\
#!/bin/sh
echo "$*" >> "$CALLS"
case "$1 $2" in
"info "*) echo '{"CgroupVersion": "2", "CgroupDriver": "systemd"}' ;;
"network ls") echo 0123456789ab ;;
"network inspect") echo '[{"ID": "0123456789ab", "Name": "kind"}]' ;;
"run "*) echo "the stand-in runs no containers" >&2; exit 125 ;;
esac
"""


@pytest.fixture(scope="session")
def kind_program() -> Path:
    return binaries.ensure(Progress(), binaries.KIND)["kind"]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a Docker client on PATH that notes what it is asked; return its notes."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "docker")
    return calls


def create(program: Path, config: Path, tmp_path: Path) -> str:
    """Return what kind complains about."""
    argv: list[str | Path] = [
        program,
        "create",
        "cluster",
        f"--config={config}",
        f"--kubeconfig={tmp_path / 'kubeconfig'}",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT, timeout=60, check=False)
    assert done.returncode != 0, "the stand-in cannot make a cluster"
    return done.stderr


def test_kind_accepts_the_configuration(kind_program: Path, stand_in: Path, tmp_path: Path) -> None:
    complaint = create(kind_program, kind.CONFIG, tmp_path)
    run = [line for line in stand_in.read_text().splitlines() if line.startswith("run ")]
    assert run, complaint
    assert f"--name {kind.NODE}" in run[0]
    assert f"--volume={CHECKOUT}/local_cluster/audit-policy.yaml:/etc/kubernetes/audit-policy.yaml:ro" in run[0]
    assert f"--volume={kind.AUDIT_LOG.parent}:{Path(kind.AUDIT_LOG_IN_NODE).parent}" in run[0]
    assert f"--volume={kind.AUTHENTICATION.parent}:/etc/kubernetes/authentication:ro" in run[0]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("role: control-plane", "role: worker", "must have at least one control-plane node"),
        ("extraMounts:", "extraMount:", 'unknown field "extraMount"|field extraMount not found'),
        ("podSubnet: 10.244.0.0/16", "podSubnet: 10.244.0.0/99", "invalid podSubnet|invalid pod subnet"),
    ],
)
def test_kind_refuses_what_is_wrong_with_it(
    kind_program: Path, stand_in: Path, tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    """Proves that the test above can fail."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(kind.CONFIG.read_text().replace(old, new, 1))
    assert re.search(complaint, create(kind_program, wrong, tmp_path))
    calls = stand_in.read_text().splitlines() if stand_in.exists() else []
    assert not [call for call in calls if call.startswith("run ")]


def test_the_files_that_are_mounted_are_there() -> None:
    config = yaml.safe_load(kind.CONFIG.read_text())
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in config["nodes"][0]["extraMounts"]}
    assert (CHECKOUT / mounts["/etc/kubernetes/audit-policy.yaml"]).is_file()
    assert CHECKOUT / mounts["/var/log/kubernetes/audit"] == kind.AUDIT_LOG.parent
    assert CHECKOUT / mounts["/etc/kubernetes/authentication"] == kind.AUTHENTICATION.parent


def test_both_clusters_use_the_same_names_and_ranges() -> None:
    config = yaml.safe_load(kind.CONFIG.read_text())
    assert config["name"] == CLUSTER
    assert config["networking"] == {"podSubnet": POD_CIDR, "serviceSubnet": SERVICE_CIDR}
    patch = yaml.safe_load(config["nodes"][0]["kubeadmConfigPatches"][0])
    arguments = patch["apiServer"]["extraArgs"]
    assert arguments["enable-admission-plugins"] == "NodeRestriction,OwnerReferencesPermissionEnforcement"
    assert arguments["audit-log-path"] == kind.AUDIT_LOG_IN_NODE
    assert Path(arguments["authentication-config"]).name == kind.AUTHENTICATION.name
