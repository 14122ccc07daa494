"""The same cluster on kind, where a Docker engine answers."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from local_cluster import api, binaries, node
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT, CLUSTER, KUBECONFIG, LOCAL, NODE_LABELS

NODE = f"{CLUSTER}-control-plane"
CONFIG = CHECKOUT / "kind-config.yaml"
# kind reads relative host paths from its working directory: the checkout.
AUDIT_LOG = LOCAL / "kind" / "audit" / "audit.log"
VOLUMES = Path("/var/local-volumes")
REGISTRY = "af-local-registry"
REGISTRY_IMAGE = "registry:2"
REGISTRY_PORT = 5000
NODE_SECONDS = 120.0


class KindCluster:
    """Starts, stops and looks at the kind cluster of this project."""

    audit_log = AUDIT_LOG

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def up(self) -> None:
        """Make the cluster run; one that runs already is left alone."""
        programs = binaries.ensure(self.progress, binaries.KUBERNETES, binaries.HELM, *self._missing_kind())
        binaries.link(programs)
        kind = programs["kind"] if "kind" in programs else Path("kind")
        if self.running():
            self.progress.note("the kind cluster is up already")
        else:
            self._create(kind)
        kubectl = self._kubectl()
        with self.progress.step("node: labels, GPUs, volumes, registry"):
            self._registry()
            if not poll(lambda: node.ready(kubectl, NODE), NODE_SECONDS):
                raise ClusterError(f"The node is not ready within {NODE_SECONDS:.0f} s: see `docker logs {NODE}`.")
            labels = [f"{label}={value}" for label, value in NODE_LABELS.items()]
            kubectl("label", "node", NODE, "--overwrite", *labels)
            node.advertise_gpus(kubectl, NODE)
            node.renew_volumes(kubectl, VOLUMES, NODE, _empty_in_node)
            # The API server keeps the mode of the log over rotations; its user is root, ours may not be.
            _docker("exec", NODE, "chmod", "a+r", "/var/log/kubernetes/audit/audit.log")

    def down(self) -> None:
        """Delete cluster and registry; fine if there is none."""
        programs = binaries.ensure(self.progress, *self._missing_kind())
        kind = programs["kind"] if "kind" in programs else Path("kind")
        self.progress.run(
            "deleting the kind cluster", [str(kind), "delete", "cluster", f"--name={CLUSTER}"], _log("delete")
        )
        if _docker("ps", "--all", "--quiet", f"--filter=name=^{REGISTRY}$"):
            _docker("rm", "--force", "--volumes", REGISTRY)
        KUBECONFIG.unlink(missing_ok=True)

    def running(self) -> bool:
        """Say whether the node's container runs and the API server behind our kubeconfig is ready."""
        if not self.status()[NODE] or not KUBECONFIG.exists():
            return False
        try:
            return self._kubectl()("get", "--raw=/readyz") == "ok"
        except ClusterError:
            return False

    def status(self) -> dict[str, bool]:
        """Return container -> does it run."""
        names = set(_docker("ps", "--format={{.Names}}").split())
        return {name: name in names for name in (NODE, REGISTRY)}

    def _create(self, kind: Path) -> None:
        # Half a cluster cannot be mended: kind deletes what there is, quietly if there is nothing.
        self.progress.run(
            "removing what is left of an earlier one",
            [str(kind), "delete", "cluster", f"--name={CLUSTER}"],
            _log("delete"),
        )
        AUDIT_LOG.parent.mkdir(parents=True, exist_ok=True)
        create = [str(kind), "create", "cluster", f"--config={CONFIG}", f"--kubeconfig={KUBECONFIG}", "--wait=120s"]
        self.progress.run("creating a kind cluster", create, _log("create"), cwd=CHECKOUT)

    def _registry(self) -> None:
        """Run a registry that this machine and the node both call localhost:5000."""
        if not self.status()[REGISTRY]:
            publish = f"127.0.0.1:{REGISTRY_PORT}:5000"
            _docker("rm", "--force", REGISTRY)
            _docker(
                "run",
                "--detach",
                "--restart=always",
                f"--publish={publish}",
                "--network=kind",
                f"--name={REGISTRY}",
                REGISTRY_IMAGE,
            )
        directory = f"/etc/containerd/certs.d/localhost:{REGISTRY_PORT}"
        hosts = f'[host."http://{REGISTRY}:5000"]\n'
        _docker("exec", NODE, "mkdir", "-p", directory)
        _docker("exec", "-i", NODE, "cp", "/dev/stdin", f"{directory}/hosts.toml", stdin=hosts)

    def _kubectl(self) -> api.Kubectl:
        return api.Kubectl(LOCAL / "bin" / "kubectl", KUBECONFIG)

    @staticmethod
    def _missing_kind() -> Sequence[binaries.Module]:
        return () if shutil.which("kind") else (binaries.KIND,)


def _empty_in_node(path: Path) -> None:
    _docker("exec", NODE, "sh", "-c", f"rm -rf {path} && mkdir -p -m 1777 {path}")


def _docker(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _log(name: str) -> Path:
    return LOCAL / "kind" / f"{name}-{os.getpid()}.log"
