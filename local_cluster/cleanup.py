"""Removes what a cluster left: processes, mounts, cgroups, network, files. Safe to repeat, never hangs."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from local_cluster import cgroups, components, network, processes
from local_cluster.errors import ClusterError
from local_cluster.processes import Daemon, Identity
from local_cluster.settings import Paths

CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOGS = Path("/var/log/containers")
GRACE_SECONDS = 3.0
UNMOUNT_SECONDS = 10.0


def leftovers(paths: Paths) -> list[str]:
    """Name what there is of a cluster, in words; empty on a clean machine."""
    found = network.leftovers(paths)
    if count := len(strays(paths)):
        found.append(f"{count} processes")
    if count := len(mounts_below(paths.state)):
        found.append(f"{count} mounts")
    if paths.run.exists():
        found.append(f"files in {paths.run}")
    return found


def clean(paths: Paths) -> None:
    """Remove everything but the caches: the registry's blobs and, if it is sound, containerd's images."""
    processes.stop_all((Daemon(name, paths.run, paths.logs).identity() for name in components.NAMES), GRACE_SECONDS)
    processes.stop_all(strays(paths), grace_seconds=0)
    unmount(mounts_below(paths.state))
    network.remove(paths)
    _remove_shim_sockets(paths)
    cgroups.remove()
    for left in (*_network_results(paths), *_container_log_links(paths)):
        left.unlink(missing_ok=True)
    for directory in (paths.run, paths.pki, paths.etc, paths.kubelet, paths.volumes):
        _remove_tree(directory)


def strays(paths: Paths) -> list[Identity]:
    """Find this cluster's processes without any record: by cgroup, by namespace, by what they were started with."""
    return [identity for identity in processes.running() if identity.pid != os.getpid() and _ours(identity, paths)]


def _ours(identity: Identity, paths: Paths) -> bool:
    directory = processes.PROC / str(identity.pid)
    try:
        membership = (directory / "cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    if re.search(rf":{cgroups.ROOT}(/|$)", membership, re.MULTILINE):
        return True
    arguments = processes.command_line(identity.pid)
    # A shim names our containerd's socket; a component a file of ours. A user's shell in the namespace names neither.
    if any(argument == str(paths.containerd_socket) for argument in arguments):
        return Path(arguments[0]).name.startswith(("containerd-shim", "ctr"))
    return _in_namespace(directory, paths) and any(f"{paths.state}/" in argument for argument in arguments)


def _in_namespace(directory: Path, paths: Paths) -> bool:
    try:
        namespace = (directory / "ns/net").stat()
        ours = paths.network_namespace.stat()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return (namespace.st_dev, namespace.st_ino) == (ours.st_dev, ours.st_ino)


def mounts_below(directory: Path) -> list[Path]:
    """Return the mount points below ``directory``, the deepest and latest first."""
    return parse_mounts(Path("/proc/self/mountinfo").read_text(), directory)


def parse_mounts(mountinfo: str, directory: Path) -> list[Path]:
    """Return the mount points below ``directory`` that a mountinfo text names, the deepest and latest first."""
    points = [Path(_unescape(line.split(" ")[4])) for line in mountinfo.splitlines()]
    below = [point for point in points if point.is_relative_to(directory)]
    below.reverse()  # of several mounts on one point, the latest is on top (the sort keeps their order)
    return sorted(below, key=lambda point: len(point.parts), reverse=True)


def _unescape(field: str) -> str:
    # The kernel writes space, tab, newline and backslash as octal.
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def unmount(points: Iterable[Path]) -> None:
    """Unmount; what is busy is detached, so that it goes when its last user does."""
    for point in points:
        if _umount(point) and (complaint := _umount(point, "--lazy")):
            raise ClusterError(f"{point} is still mounted: {complaint}")


def _umount(point: Path, *options: str) -> str:
    """Return why it did not work, empty if it did."""
    argv = ["umount", "--no-canonicalize", *options, str(point)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=UNMOUNT_SECONDS, check=False)
    except subprocess.TimeoutExpired as expired:
        return str(expired)
    return "" if done.returncode == 0 or "not mounted" in done.stderr else done.stderr.strip()


def _remove_shim_sockets(paths: Paths) -> None:
    # containerd 1.x puts them outside of its state directory, each shim's bundle says where.
    for address in paths.containerd_state.glob("io.containerd.runtime.v2.task/*/*/address"):
        Path(address.read_text().removeprefix("unix://")).unlink(missing_ok=True)


def _network_results(paths: Paths) -> list[Path]:
    # containerd's CNI keeps these at a fixed place; each names the namespace that it was for.
    return [path for path in CNI_RESULTS.glob("*") if str(paths.containerd_state) in path.read_text()]


def _container_log_links(paths: Paths) -> list[Path]:
    # Where the kubelet puts them is not to be configured; whose they are is seen from where they point.
    links = (path for path in CONTAINER_LOGS.glob("*.log") if path.is_symlink())
    return [path for path in links if path.readlink().is_relative_to(paths.logs)]


def _remove_tree(directory: Path) -> None:
    if still := mounts_below(directory):
        raise ClusterError(f"{still[0]} is still mounted: not removing {directory}")
    if directory.exists():
        shutil.rmtree(directory)
