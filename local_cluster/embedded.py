"""The embedded cluster: the real components, started by us, in one network namespace."""

import os
import shutil
import socket
import subprocess
from functools import partial
from pathlib import Path

from local_cluster import api, archive, binaries, cgroups, cleanup, components, network, node, packages, pki, processes
from local_cluster.errors import ClusterError
from local_cluster.processes import Daemon
from local_cluster.progress import Progress
from local_cluster.settings import (
    COREDNS_IMAGE,
    ETCD_METRICS_URL,
    KUBECONFIG,
    NODE,
    PAUSE_IMAGE,
    REGISTRY_URL,
    Paths,
)

MODULES = (binaries.KUBERNETES, binaries.COREDNS, binaries.HELM, binaries.KUBE_ROUTER)
BUSYBOX = Path("/bin/busybox")
# In the state directory while containerd's image store is not known to be sound.
DIRTY = "containerd-in-use"
CTR_SECONDS = 20
API_SECONDS = 30.0


class EmbeddedCluster:
    """Starts, stops and looks at the one embedded cluster of this machine."""

    def __init__(self, progress: Progress, paths: Paths | None = None) -> None:
        self.progress = progress
        self.paths = paths or Paths()

    def up(self) -> None:
        """Make the cluster run; one that runs already is left alone."""
        packages.ensure(self.progress)
        programs = binaries.ensure(self.progress, *MODULES)
        binaries.link({"kubectl": programs["kubernetes"].with_name("kubectl"), "helm": programs["helm"]})
        if self.running():
            self.progress.note("the embedded cluster is up already")
        else:
            self._replace(programs)
        self._publish_kubeconfig()
        volumes = self.paths.volumes
        node.renew_volumes(self._kubectl(programs), volumes, NODE, node.empty_directory)

    def _replace(self, programs: dict[str, Path]) -> None:
        if found := cleanup.leftovers(self.paths):
            dead = [name for name, alive in self.status().items() if not alive]
            what = "all of it" if len(dead) == len(components.NAMES) else ", ".join(dead) or "its API does not answer"
            self.progress.note(f"an earlier cluster is dead ({what}) and left {', '.join(found)}: cleaning up")
            self._clean()
        self._prepare()
        self._start_control_plane(programs)
        self._start_node(programs)

    def down(self) -> None:
        """Stop the cluster and remove all of it but the caches; fine if there is none."""
        if not cleanup.leftovers(self.paths):
            self.progress.note("the embedded cluster is down already")
            KUBECONFIG.unlink(missing_ok=True)
            return
        with self.progress.step("stopping the components"):
            stopping = [self._daemon(name) for name in components.NAMES if name not in {"containerd", "registry"}]
            # All at once: the data goes anyway, so the order does not matter, and no one waits for another.
            processes.stop_all((daemon.identity() for daemon in stopping), grace_seconds=2.0)
        with self.progress.step("removing the containers"):
            self._remove_containers()
            self._daemon("containerd").stop(grace_seconds=5.0)
            self._daemon("registry").stop(grace_seconds=3.0)
        self._clean()
        KUBECONFIG.unlink(missing_ok=True)

    def running(self) -> bool:
        """Say whether every component is alive and the API server is ready."""
        # Patience: on a busy machine an API server that is well may be slow, and would be replaced for it.
        return all(self.status().values()) and processes.poll(lambda: api.api_ready(self.paths.pki), API_SECONDS)

    def status(self) -> dict[str, bool]:
        """Return component -> is its process alive."""
        return {name: self._daemon(name).alive() for name in components.NAMES}

    @property
    def audit_log(self) -> Path:
        """Where the API server writes who asked for what."""
        return self.paths.audit_log

    @property
    def authentication(self) -> Path:
        """Whose tokens the API server takes; it reads the file again when it changes."""
        return self.paths.authentication

    def _clean(self) -> None:
        with self.progress.step("removing mounts, network and files of the cluster"):
            cleanup.clean(self.paths)
            if (self.paths.state / DIRTY).exists():
                # Its containers' snapshots belong to nobody now. The registry has the images.
                shutil.rmtree(self.paths.containerd_root, ignore_errors=True)
                (self.paths.state / DIRTY).unlink()

    def _prepare(self) -> None:
        paths = self.paths
        with self.progress.step("network, certificates and configuration"):
            if paths.logs.exists():
                shutil.rmtree(paths.logs)
            for directory in (paths.run, paths.logs, paths.containerd_state, paths.registry):
                directory.mkdir(parents=True, exist_ok=True)
            paths.state.chmod(0o711)
            network.create(paths)
            pki.create(paths.pki)
            components.write_configuration(paths)
            cgroups.create()

    def _start_control_plane(self, programs: dict[str, Path]) -> None:
        (self.paths.state / DIRTY).touch()
        with self.progress.step("etcd, containerd, registry"):
            for name in ("etcd", "containerd", "registry"):
                self._start(name, programs)
            self._daemon("etcd").wait("waiting for etcd", lambda: api.answers(f"{ETCD_METRICS_URL}/health"), 30)
            self._start("kube-apiserver", programs)
            socket_path = self.paths.containerd_socket
            self._daemon("containerd").wait("waiting for containerd", lambda: _accepts(socket_path), 30)
            self._daemon("registry").wait("waiting for the registry", lambda: api.answers(f"{REGISTRY_URL}/v2/"), 30)
            self._import_images(programs)
        with self.progress.step("API server"):
            apiserver = self._daemon("kube-apiserver")
            apiserver.wait("waiting for the API server", lambda: api.api_ready(self.paths.pki), 90)

    def _start_node(self, programs: dict[str, Path]) -> None:
        kubectl = self._kubectl(programs)
        kubelet = self._daemon("kubelet")
        with self.progress.step("controllers, scheduler, kubelet, proxy"):
            for name in ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"):
                self._start(name, programs)
            kubectl.apply((node.MANIFESTS / "coredns.yaml").read_text())
            kubelet.wait("waiting for the node", lambda: node.ready(kubectl), 60)
            node.advertise_gpus(kubectl)
        with self.progress.step("cluster DNS"):
            available = ("kube-system", "coredns")
            kubelet.wait("waiting for CoreDNS", lambda: node.deployment_available(kubectl, *available), 60)
        with self.progress.step("enforcement of network policies"):
            # It gives up where it may not read, and where there is no node yet.
            kubectl.apply((node.MANIFESTS / "kube-router.yaml").read_text())
            self._start("kube-router", programs)
            enforces = partial(network.enforces, self.paths)
            self._daemon("kube-router").wait("waiting for its first rules", enforces, 60)

    def _import_images(self, programs: dict[str, Path]) -> None:
        pause = archive.ProgramImage(PAUSE_IMAGE, BUSYBOX, ("/bin/busybox", "sleep", "2147483647"))
        for image in (pause, archive.ProgramImage(COREDNS_IMAGE, programs["coredns"], ("/coredns",))):
            target = self.paths.run / "image.tar"
            archive.write(image, target)
            imported = self._ctr("images", "import", str(target))
            if imported.returncode:
                raise ClusterError(f"containerd does not take {image.reference}: {imported.stderr.strip()}")
            target.unlink()

    def _remove_containers(self) -> None:
        """Empty containerd in good order, so that its images can be kept; what does not go is cleaned by force."""
        if not self._daemon("containerd").alive():
            return
        for kind, options in (("tasks", ("--force",)), ("containers", ())):
            if names := self._ctr(kind, "list", "--quiet").stdout.split():
                # Killed tasks make it exit with an error: what counts is what is left in the end.
                self._ctr(kind, "delete", *options, *names)
        left = self._ctr("containers", "list", "--quiet")
        if left.returncode == 0 and not left.stdout.split():
            (self.paths.state / DIRTY).unlink(missing_ok=True)

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = ["ctr", "--address", str(self.paths.containerd_socket), "--namespace", "k8s.io", *arguments]
        try:
            return subprocess.run(argv, capture_output=True, text=True, timeout=CTR_SECONDS, check=False)
        except subprocess.TimeoutExpired as expired:
            return subprocess.CompletedProcess(argv, 124, "", str(expired))

    def _start(self, name: str, programs: dict[str, Path]) -> None:
        command = components.command(name, components.Programs(programs), self.paths)
        self._daemon(name).start(network.inside(command, self.paths))

    def _daemon(self, name: str) -> Daemon:
        return Daemon(name, self.paths.run, self.paths.logs)

    def _kubectl(self, programs: dict[str, Path]) -> api.Kubectl:
        return api.Kubectl(programs["kubernetes"].with_name("kubectl"), self.paths.pki / "admin.kubeconfig")

    def _publish_kubeconfig(self) -> None:
        KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
        partial = KUBECONFIG.with_name(".kubeconfig.partial")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write((self.paths.pki / "admin.kubeconfig").read_text())
        partial.replace(KUBECONFIG)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True
