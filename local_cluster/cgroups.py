"""The cgroup that holds every container of the cluster: what is in it is ours, whatever its pid."""

import os
from functools import partial
from pathlib import Path

from local_cluster import processes
from local_cluster.settings import CLUSTER

ROOT = f"/{CLUSTER}"
HIERARCHIES = Path("/sys/fs/cgroup")
REMOVE_SECONDS = 10.0


def unified() -> bool:
    """Say whether this machine has cgroup v2 (one hierarchy) rather than v1 (one per controller)."""
    return (HIERARCHIES / "cgroup.controllers").exists()


def directories() -> list[Path]:
    """Return where the cluster's cgroup is in each hierarchy."""
    if unified():
        return [HIERARCHIES / CLUSTER]
    return [entry / CLUSTER for entry in HIERARCHIES.iterdir() if entry.is_dir() and not entry.is_symlink()]


def create() -> None:
    """Make the cgroup; the kubelet insists that its root is there."""
    if unified():
        controllers = (HIERARCHIES / "cgroup.controllers").read_text().split()
        (HIERARCHIES / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
    for directory in directories():
        directory.mkdir(exist_ok=True)
        if not unified():
            _inherit_cpuset(directory)


def _inherit_cpuset(directory: Path) -> None:
    # On cgroup v1 a new cpuset is empty, and refuses processes until it has some of its parent's.
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (directory / name).exists():
            (directory / name).write_text((directory.parent / name).read_text())


def remove() -> None:
    """Remove the cgroup and all below; its processes must have ended."""
    for root in directories():
        for directory, _, _ in os.walk(root, topdown=False):
            # The kernel lets go a moment after the last process has ended.
            processes.poll(partial(_rmdir, Path(directory)), REMOVE_SECONDS)


def _rmdir(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
