import json
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

from local_cluster import archive, components, node, pki
from local_cluster.settings import COREDNS_IMAGE, DNS_ADDRESS, MAX_PODS, Paths

PROGRAMS = {name: Path("/programs") / name for name in ("kubernetes", "kube-router")}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "state")


def command(name: str, paths: Paths) -> list[str]:
    return components.command(name, components.Programs(PROGRAMS), paths)


@pytest.mark.parametrize("name", components.NAMES)
def test_every_component_has_a_command_that_stays_in_the_state_directory(name: str, paths: Paths) -> None:
    argv = command(name, paths)
    # That is also how a stray process is known to be ours.
    assert any(f"{paths.state}/" in argument for argument in argv)
    assert "None" not in " ".join(argv)


def test_the_api_server_is_as_strict_as_hardened_clusters(paths: Paths) -> None:
    argv = command("kube-apiserver", paths)
    assert "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement" in argv
    assert "--authorization-mode=Node,RBAC" in argv
    assert f"--audit-log-path={paths.audit_log}" in argv
    assert f"--authentication-config={paths.authentication}" in argv


def test_the_enforcer_is_a_firewall_and_nothing_else(paths: Paths) -> None:
    argv = command("kube-router", paths)
    assert argv[0] == "/programs/kube-router"
    assert {flag for flag in argv if flag.startswith(("--run-", "--enable-cni"))} == {
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        "--run-loadbalancer=false",
        "--enable-cni=false",
    }
    services = next(flag for flag in command("kube-apiserver", paths) if "service-cluster-ip-range" in flag)
    assert services in argv


def test_the_enforcer_may_read_and_no_more() -> None:
    role, binding = yaml.safe_load_all((node.MANIFESTS / "kube-router.yaml").read_text())
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert [(s["kind"], s["name"]) for s in binding["subjects"]] == [("User", pki.LEAVES["kube-router"].common_name)]


def test_the_audit_policy_has_every_request_once() -> None:
    policy = yaml.safe_load((Path(components.__file__).parent / "audit-policy.yaml").read_text())
    assert policy["omitStages"] == ["RequestReceived"]
    assert policy["rules"] == [{"level": "Metadata"}]


def test_configuration_files_are_what_the_components_read(paths: Paths) -> None:
    components.write_configuration(paths)
    kubelet = json.loads((paths.etc / "kubelet.json").read_text())
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert kubelet["clusterDNS"] == [DNS_ADDRESS]
    containerd = tomllib.loads((paths.etc / "containerd.toml").read_text())
    assert containerd["root"] == str(paths.containerd_root)
    assert containerd["plugins"]["io.containerd.grpc.v1.cri"]["netns_mounts_under_state_dir"] is True


def test_there_are_addresses_for_all_pods(paths: Paths) -> None:
    components.write_configuration(paths)
    assert json.loads((paths.etc / "kubelet.json").read_text())["maxPods"] == MAX_PODS < 253


def test_the_dns_manifest_and_the_settings_agree() -> None:
    objects = list(yaml.safe_load_all((node.MANIFESTS / "coredns.yaml").read_text()))
    service = next(found for found in objects if found["kind"] == "Service")
    deployment = next(found for found in objects if found["kind"] == "Deployment")
    assert service["spec"]["clusterIP"] == DNS_ADDRESS
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == COREDNS_IMAGE


def test_an_image_archive_is_the_same_each_time(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    image = archive.ProgramImage("localhost/x:1", program, ("/program",))
    for name in ("a.tar", "b.tar"):
        archive.write(image, tmp_path / name)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as opened:
        manifest = json.load(opened.extractfile("manifest.json") or pytest.fail("no manifest"))
        assert manifest[0]["RepoTags"] == ["localhost/x:1"]
        assert {manifest[0]["Config"], "layer.tar", "manifest.json"} == set(opened.getnames())
