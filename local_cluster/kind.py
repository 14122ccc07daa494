"""The same cluster on kind, where a Docker engine answers."""

import os
import shutil
import subprocess
from pathlib import Path

from local_cluster import api, binaries, node
from local_cluster.components import NOBODY_ELSE
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT, CLUSTER, KUBECONFIG, LOCAL, NODE_LABELS

NODE = f"{CLUSTER}-control-plane"
CONFIG = CHECKOUT / "kind-config.yaml"
# kind reads relative host paths from its working directory: the checkout.
AUDIT_LOG = LOCAL / "kind" / "audit" / "audit.log"
AUTHENTICATION = LOCAL / "kind" / "authentication" / "authentication.yaml"
AUDIT_LOG_IN_NODE = "/var/log/kubernetes/audit/audit.log"
VOLUMES = Path("/var/local-volumes")
REGISTRY = "af-local-registry"
REGISTRY_IMAGE = "registry:2"
REGISTRY_PORT = 5000
NODE_SECONDS = 120.0
# What is on PATH is used; what is not is built.
MODULES = {"kind": binaries.KIND, "kubectl": binaries.KUBERNETES, "helm": binaries.HELM}


class KindCluster:
    """Starts, stops and looks at the kind cluster of this project."""

    audit_log = AUDIT_LOG
    authentication = AUTHENTICATION

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def up(self) -> None:
        """Make the cluster run; one that runs already is left alone."""
        tools = {name: self._tool(name) for name in MODULES}
        binaries.link({name: tools[name] for name in ("kubectl", "helm")})
        if self.running():
            self.progress.note("the kind cluster is up already")
        else:
            self._create(tools["kind"])
        with self.progress.step("registry"):
            self._start_registry()
        with self.progress.step("labels, GPUs and volumes of the node"):
            self._furnish()

    def down(self) -> None:
        """Delete cluster and registry; fine if there is none."""
        self._delete(self._tool("kind"))
        if REGISTRY in _containers("--all"):
            _docker("rm", "--force", "--volumes", REGISTRY)
        KUBECONFIG.unlink(missing_ok=True)

    def running(self) -> bool:
        """Say whether the node's container runs and the API server behind our kubeconfig is ready."""
        if NODE not in _containers() or not KUBECONFIG.exists():
            return False
        try:
            return self._kubectl()("get", "--raw=/readyz") == "ok"
        except ClusterError:
            return False

    def status(self) -> dict[str, bool]:
        """Return container -> does it run."""
        running = _containers()
        return {name: name in running for name in (NODE, REGISTRY)}

    def _create(self, kind: Path) -> None:
        # Half a cluster cannot be mended.
        self._delete(kind)
        for path in (AUDIT_LOG, AUTHENTICATION):
            path.parent.mkdir(parents=True, exist_ok=True)
        AUTHENTICATION.write_text(NOBODY_ELSE)
        create = [str(kind), "create", "cluster", f"--config={CONFIG}", f"--kubeconfig={KUBECONFIG}", "--wait=120s"]
        self.progress.run("creating a kind cluster", create, _log("create"), cwd=CHECKOUT)

    def _delete(self, kind: Path) -> None:
        delete = [str(kind), "delete", "cluster", f"--name={CLUSTER}", f"--kubeconfig={KUBECONFIG}"]
        self.progress.run("removing the kind cluster, if there is one", delete, _log("delete"))

    def _start_registry(self) -> None:
        """Run a registry that this machine and the node both call localhost:5000."""
        if REGISTRY not in _containers():
            if REGISTRY in _containers("--all"):
                _docker("rm", "--force", REGISTRY)
            publish = f"--publish=127.0.0.1:{REGISTRY_PORT}:5000"
            where = ("--detach", "--restart=always", "--network=kind", publish)
            _docker("run", *where, f"--name={REGISTRY}", REGISTRY_IMAGE)
        directory = f"/etc/containerd/certs.d/localhost:{REGISTRY_PORT}"
        _docker("exec", NODE, "mkdir", "-p", directory)
        hosts = f'[host."http://{REGISTRY}:5000"]\n'
        _docker("exec", "-i", NODE, "cp", "/dev/stdin", f"{directory}/hosts.toml", stdin=hosts)

    def _furnish(self) -> None:
        kubectl = self._kubectl()
        if not poll(lambda: node.ready(kubectl, NODE), NODE_SECONDS):
            raise ClusterError(f"The node is not ready within {NODE_SECONDS:.0f} s: see `docker logs {NODE}`.")
        labels = [f"{label}={value}" for label, value in NODE_LABELS.items()]
        kubectl("label", "node", NODE, "--overwrite", *labels)
        node.advertise_gpus(kubectl, NODE)
        node.renew_volumes(kubectl, VOLUMES, NODE, _empty_in_node)
        # The log is root's; its mode survives rotation.
        _docker("exec", NODE, "chmod", "a+r", AUDIT_LOG_IN_NODE)

    def _tool(self, name: str) -> Path:
        # Not our own link to what was found before: it would point to itself.
        path = os.pathsep.join(entry for entry in os.get_exec_path() if Path(entry) != LOCAL / "bin")
        if found := shutil.which(name, path=path):
            return Path(found).absolute()
        module = MODULES[name]
        return binaries.ensure(self.progress, module)[module.name].with_name(name)

    def _kubectl(self) -> api.Kubectl:
        return api.Kubectl(LOCAL / "bin" / "kubectl", KUBECONFIG)


def _empty_in_node(path: Path) -> None:
    _docker("exec", NODE, "sh", "-c", f"rm -rf {path} && mkdir -p {path} && chmod 1777 {path}")


def _containers(*options: str) -> set[str]:
    return set(_docker("ps", *options, "--format={{.Names}}").split())


def _docker(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _log(name: str) -> Path:
    return LOCAL / "kind" / f"{name}-{os.getpid()}.log"
