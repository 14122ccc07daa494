"""``python -m local_cluster``: start, stop and look at the local cluster."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from local_cluster import locks
from local_cluster.embedded import EmbeddedCluster
from local_cluster.errors import ClusterError
from local_cluster.kind import KindCluster
from local_cluster.progress import Progress
from local_cluster.settings import KUBECONFIG

Cluster = EmbeddedCluster | KindCluster
# One per user of this machine: the embedded cluster is always root's.
LOCK = Path(tempfile.gettempdir()) / f"af-local-cluster-{os.getuid()}.lock"
DOCKER_SECONDS = 10


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A real Kubernetes on this machine, for demo and tests.

    Where a Docker engine answers it is a kind cluster (kind-config.yaml). Elsewhere, as root on Debian, it is
    the embedded cluster: the same upstream components in one network namespace without a way out.
    """
    # `su` without a dash leaves root without them, and containerd's plugins call iptables.
    os.environ["PATH"] = f"{os.environ['PATH']}:/usr/sbin:/sbin"


@main.command()
@click.option(
    "--images/--no-images", default=True, help="Also build the project's images and push them to the cluster."
)
def up(*, images: bool) -> None:
    """Start the cluster; does nothing but a check when it runs."""
    progress = Progress()
    with _reported(), locked(progress):
        cluster = _choose(progress)
        cluster.up()
        if images:
            _ensure_images(progress, cluster)
        progress.note(f"ready: export KUBECONFIG={KUBECONFIG}")


@main.command()
def down() -> None:
    """Stop the cluster and leave nothing behind but caches."""
    progress = Progress()
    with _reported(), locked(progress):
        _choose(progress).down()


@main.command()
def status() -> None:
    """Say what runs; exit code 1 unless all of it does."""
    with _reported():
        cluster = _choose(Progress())
        for name, alive in cluster.status().items():
            click.echo(f"{name:26} {'running' if alive else 'not running'}")
        running = cluster.running()
        click.echo(f"{'API server':26} {'ready' if running else 'not ready'}")
    sys.exit(0 if running else 1)


@main.command("audit-log")
def audit_log() -> None:
    """Print the path of the API server's audit log (JSON lines, one per request)."""
    with _reported():
        click.echo(_choose(Progress()).audit_log)


@main.command()
def authentication() -> None:
    """Print the path of the API server's AuthenticationConfiguration, which it reads again when it changes."""
    with _reported():
        click.echo(_choose(Progress()).authentication)


@main.command("images")
def build_images() -> None:
    """Build the project's images and push them to the cluster that runs."""
    progress = Progress()
    with _reported(), locked(progress):
        cluster = _choose(progress)
        if not cluster.running():
            raise ClusterError("No cluster is running: start one with `make cluster`.")
        _ensure_images(progress, cluster)


def _ensure_images(progress: Progress, cluster: Cluster) -> None:
    # Imported here: the cluster itself does not need what builds images.
    from local_cluster import engines, images  # noqa: PLC0415

    engine = engines.Docker() if isinstance(cluster, KindCluster) else engines.Buildah()
    images.ensure_images(progress, engine)


def _choose(progress: Progress) -> Cluster:
    if docker_answers():
        return KindCluster(progress)
    if os.geteuid() != 0:
        raise ClusterError(
            "The local cluster needs a Docker engine (then it uses kind) or root (then it runs embedded), and here is "
            "neither. Start Docker and check that `docker info` answers as this user, or run the same command as root."
        )
    return EmbeddedCluster(progress)


def docker_answers() -> bool:
    """Say whether there is a Docker engine that this user may use."""
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=DOCKER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


@contextlib.contextmanager
def locked(progress: Progress) -> Iterator[None]:
    """Let only one command at a time change the cluster."""
    with locks.held(LOCK, lambda: progress.note("another command is changing the local cluster: waiting for it")):
        yield


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except ClusterError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
