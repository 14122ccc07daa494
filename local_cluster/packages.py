"""Debian packages the embedded cluster stands on, and those of the tests with a browser."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from local_cluster.errors import ClusterError
from local_cluster.progress import Progress
from local_cluster.settings import cache_dir

CNI_PLUGINS = Path("/usr/lib/cni")
POLICY = Path("/usr/sbin/policy-rc.d")

# What must be there -> the Debian package that brings it.
NEEDED = {
    "containerd": "containerd",
    "runc": "runc",
    str(CNI_PLUGINS / "bridge"): "containernetworking-plugins",
    "iptables": "iptables",
    "ipset": "ipset",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "socat": "socat",
    "docker-registry": "docker-registry",
    "/bin/busybox": "busybox-static",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "modprobe": "kmod",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "fuse-overlayfs": "fuse-overlayfs",
}
BROWSER = {"chromium": "chromium", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core"}
"""What the tests of JupyterHub's pages use; the cluster does not, so it comes when they run."""


def missing(needed: Mapping[str, str] | None = None) -> list[str]:
    """Return the Debian packages that are needed (for the cluster, if not said) and not there."""
    return sorted(package for program, package in (needed or NEEDED).items() if not _present(program))


def _present(program: str) -> bool:
    return Path(program).exists() if program.startswith("/") else shutil.which(program) is not None


def ensure(progress: Progress, needed: Mapping[str, str] | None = None) -> None:
    """Install what is missing; nothing is started by the installation."""
    if not (packages := missing(needed)):
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"Needed, and there is no apt-get to install it: {', '.join(packages)}.")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    logs = cache_dir() / "logs"
    with _no_services():
        progress.run("reading Debian's package lists", ["apt-get", "update"], logs / "apt-update.log", env)
        install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
        progress.run(f"installing {', '.join(packages)}", install, logs / "apt-install.log", env)
    if still := missing(needed):
        raise ClusterError(f"Installed, and still not found: {', '.join(still)}. See {logs / 'apt-install.log'}.")


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep Debian from starting containerd and docker-registry of its own: the cluster runs its own, confined."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
