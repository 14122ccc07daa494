"""The embedded cluster's life and violent deaths. These destroy and rebuild the one cluster of this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from local_cluster import cgroups, cleanup, components, network, processes
from local_cluster.__main__ import docker_answers
from local_cluster.processes import Daemon, identify, poll
from local_cluster.settings import CHECKOUT, KUBECONFIG, LOCAL, PAUSE_IMAGE, STORAGE_CLASS, Paths

pytestmark = [
    pytest.mark.cluster_lifecycle,
    pytest.mark.skipif(docker_answers(), reason="with Docker the cluster is kind's, whose life is kind's business"),
    pytest.mark.skipif(os.geteuid() != 0, reason="the embedded cluster needs root"),
]

PATHS = Paths()
UP = [sys.executable, "-m", "local_cluster", "up", "--no-images"]
DOWN = [sys.executable, "-m", "local_cluster", "down"]
POD = f"""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: default}}
spec: {{accessModes: [ReadWriteOnce], storageClassName: {STORAGE_CLASS}, resources: {{requests: {{storage: 1Gi}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080, nodePort: 30099}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: default, labels: {{app: web}}}}
spec:
  nodeSelector: {{analysisfacility.io/node-pool-gpu: "true"}}
  securityContext: {{runAsUser: 1000, fsGroup: 1000}}
  containers:
    - name: web
      image: {PAUSE_IMAGE}
      imagePullPolicy: Never
      command: [/bin/busybox, sh, -c, "echo hello >/data/index.html && exec /bin/busybox httpd -f -p 8080 -h /data"]
      resources: {{limits: {{nvidia.com/gpu: 1}}}}
      readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
      volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
"""
CLOSED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: default}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
"""


def run(argv: list[str], timeout: float = 90) -> tuple[str, float]:
    """Return what a command that must succeed says, and its duration."""
    begin = time.monotonic()
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}{logs()}"
    return done.stdout, time.monotonic() - begin


def logs() -> str:
    return "".join(f"\n--- {path}\n{processes_tail(path)}" for path in sorted(PATHS.logs.glob("*.log")))


def processes_tail(path: Path) -> str:
    if path == PATHS.audit_log:
        return ""
    return "\n".join(line[:300] for line in path.read_text(errors="replace").splitlines()[-10:])


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    argv: list[str | Path] = [LOCAL / "bin" / "kubectl", f"--kubeconfig={KUBECONFIG}", *arguments]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"kubectl {arguments}: {done.stderr}{logs()}"
    return done.stdout


def use_the_cluster() -> None:
    """A pod with volume, GPU and token runs, and answers at a node port, from here."""
    kubectl("apply", "--filename=-", stdin=POD)
    kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=45s")
    assert poll(answers, 15), logs()


def answers() -> bool:
    """Say whether the pod answers at its node port, from here."""
    argv = ["curl", "--silent", "--show-error", "--fail", "--max-time", "2", "http://10.200.0.1:30099/"]
    return subprocess.run(argv, capture_output=True, check=False).stdout == b"hello\n"


def kill_every_process() -> None:
    """As when a machine's supervisor ends everything at once: components, shims and pods, nothing is tidied."""
    left = cleanup.strays(PATHS)
    assert len(left) > len(components.NAMES)
    for identity in left:
        identity.send(signal.SIGKILL)
    assert poll(lambda: not cleanup.strays(PATHS), 10), cleanup.strays(PATHS)


@pytest.fixture(scope="module", autouse=True)
def _nothing_to_begin_with() -> Iterator[None]:
    run(DOWN)
    yield
    run(DOWN)


@pytest.mark.timeout(120)
def test_up_twice() -> None:
    run(UP)
    use_the_cluster()
    output, seconds = run(UP)
    assert "up already" in output
    assert seconds < 10
    assert kubectl("get", "pod", "web", "--output=jsonpath={.status.phase}") == "Running"


@pytest.mark.timeout(120)
def test_network_policies_hold() -> None:
    """The pod that answered refuses while a policy says so, and answers again without it."""
    assert poll(answers, 15), logs()
    kubectl("apply", "--filename=-", stdin=CLOSED)
    assert poll(lambda: not answers(), 30), logs()
    kubectl("delete", "networkpolicy", "closed", "--namespace=default")
    assert poll(answers, 30), logs()


@pytest.mark.timeout(120)
def test_an_audit_log_is_kept_and_found() -> None:
    path, _ = run([sys.executable, "-m", "local_cluster", "audit-log"])
    kubectl("create", "configmap", "audited", "--namespace=default")
    events = [json.loads(line) for line in Path(path.strip()).read_text().splitlines()]
    mine = [event for event in events if event.get("objectRef", {}).get("name") == "audited"]
    assert [(event["verb"], event["stage"], event["level"]) for event in mine] == [
        ("create", "ResponseComplete", "Metadata")
    ]


@pytest.mark.timeout(120)
def test_up_after_every_process_was_killed() -> None:
    """The pods' overlay, tmpfs and namespace mounts are still there; so are veth, namespace and files."""
    use_the_cluster()
    kill_every_process()
    assert len(cleanup.mounts_below(PATHS.state)) >= 4
    assert len(network.leftovers(PATHS)) == 2
    output, _ = run(UP)
    said = [line for line in output.splitlines() if line.startswith("an earlier cluster")]
    assert len(said) == 1
    assert "network namespace af-local" in said[0]
    assert "mounts" in said[0]
    assert yaml.safe_load(kubectl("get", "pods", "--namespace=default", "--output=yaml"))["items"] == []
    use_the_cluster()


@pytest.mark.timeout(120)
def test_up_after_one_component_was_killed() -> None:
    """The others run on: they must go before the next cluster comes."""
    scheduler = Daemon("kube-scheduler", PATHS.run, PATHS.logs)
    before = [Daemon(name, PATHS.run, PATHS.logs).identity() for name in components.NAMES]
    identity = scheduler.identity()
    assert identity is not None
    identity.send(signal.SIGKILL)
    assert poll(lambda: not scheduler.alive(), 5)
    run(UP)
    assert not [known for known in before if known and known.alive()]
    use_the_cluster()


@pytest.mark.timeout(120)
def test_down_spares_a_process_that_got_a_recorded_pid() -> None:
    record = Daemon("kube-proxy", PATHS.run, PATHS.logs).record
    # containerd has these outside of the state directory.
    sockets = [Path(found.read_text().removeprefix("unix://")) for found in PATHS.containerd_state.rglob("address")]
    assert sockets
    assert all(path.exists() for path in sockets)
    with subprocess.Popen(["sleep", "120"]) as bystander:
        theirs = identify(bystander.pid)
        assert theirs is not None
        record.write_text(json.dumps(asdict(replace(theirs, start_ticks=theirs.start_ticks - 1))))
        _, seconds = run(DOWN)
        spared = bystander.poll() is None
        bystander.kill()
    assert spared
    assert seconds < 30
    assert not [path for path in sockets if path.exists()]


@pytest.mark.timeout(120)
def test_down_leaves_nothing_and_twice_is_fine() -> None:
    assert cleanup.leftovers(PATHS) == []
    assert not KUBECONFIG.exists()
    assert not [path for path in cgroups.directories() if path.exists()]
    assert not [path for path in cleanup.CNI_RESULTS.glob("*") if str(PATHS.state) in path.read_text()]
    assert not [path for path in cleanup.CONTAINER_LOGS.glob("*") if path.readlink().is_relative_to(PATHS.state)]
    left = {path.name for path in PATHS.state.iterdir()}
    # Caches, and the logs of what has been.
    assert left <= {"registry", "containerd", "logs"}
    output, seconds = run(DOWN)
    assert "down already" in output
    assert seconds < 5


@pytest.mark.timeout(120)
def test_up_after_a_crash_half_way() -> None:
    with subprocess.Popen(UP, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as crashing:
        assert crashing.stdout is not None
        for line in crashing.stdout:
            if "etcd, containerd, registry" in line:
                crashing.kill()
                break
    assert crashing.returncode == -signal.SIGKILL
    assert Daemon("etcd", PATHS.run, PATHS.logs).alive()
    output, _ = run(UP)
    assert (
        "an earlier cluster is dead (kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kube-router)"
        in output
    )
    use_the_cluster()
    data = f"--data-dir={PATHS.run / 'etcd'}"
    assert len([found for found in processes.running() if data in processes.command_line(found.pid)]) == 1
