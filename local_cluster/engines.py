"""The two engines that build images: buildah for the embedded cluster, docker for kind."""

import hashlib
import os
import subprocess
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from local_cluster import debian, kind, network
from local_cluster.errors import ClusterError
from local_cluster.images import REPOSITORY, Image
from local_cluster.progress import Progress
from local_cluster.settings import NODE_ADDRESS, Paths, cache_dir

DEBIAN = "docker.io/library/debian:bookworm-slim"
EXPECTED = {
    "python": "20 s",
    "operator": "30 s",
    "analysis_base": "1 min",
    "spark_base": "1 min",
    "root_base": "1 min",
    "ml_base": "2 min",
    "xcache": "30 s",
    "inference": "20 s",
    "inference_convert_base": "1 min",
    "hub": "40 s",
    "origin": "30 s",
}
# Certificates that the machine trusts; builds see them, images do not keep them.
MACHINE_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILD_CERTIFICATES = "/run/ca-certificates.crt"
# As uv, pip and npm are told.
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")


def _describe(image: Image) -> str:
    expected = EXPECTED.get(image.name)
    return f"building image {image.name}" + (f" (about {expected} the first time)" if expected else "")


def _arguments(image: Image, base: str) -> list[str]:
    """Return what docker and buildah are told alike: recipe, name, parents."""
    arguments = [f"--file={image.containerfile}", f"--tag={image.reference(base)}"]
    for parent in image.parents():
        arguments.append(f"--build-arg={parent.name.upper()}={parent.reference(base)}")
    return arguments


def _log(name: str) -> Path:
    return cache_dir() / "logs" / f"image-{name}.log"


class Docker:
    """The engine of a machine with Docker; its Debian is the public one."""

    base = DEBIAN
    registry = "localhost:5000"

    def has(self, reference: str) -> bool:
        """Say whether docker has the image."""
        return _succeeds(["docker", "image", "inspect", reference])

    def build(self, progress: Progress, image: Image) -> None:
        """Run ``docker build``."""
        argv = ["docker", "build", *_arguments(image, self.base), str(image.checkout)]
        # The recipes mount caches, which only BuildKit can.
        progress.run(_describe(image), argv, _log(image.name), os.environ | {"DOCKER_BUILDKIT": "1"})

    def push(self, progress: Progress, image: Image) -> None:
        """Tag the image for the registry, and push it."""
        target = f"{self.registry}/{image.name}:{image.key(self.base)}"
        progress.run(f"naming {target}", ["docker", "tag", image.reference(self.base), target], _log("tag"))
        progress.run(f"pushing image {image.name}", ["docker", "push", target], _log("push"))

    def load(self, progress: Progress, references: Iterable[str]) -> None:
        """Have the node's kubelet side pull."""
        crictl = ["docker", "exec", kind.NODE, "crictl"]
        for reference in references:
            if not _succeeds([*crictl, "inspecti", reference]):
                progress.run(f"loading image {_short(reference)}", [*crictl, "pull", reference], _log("load"))


class Buildah:
    """The engine of a machine without Docker: needs root, and makes its own Debian of the machine's package sources."""

    def __init__(self, registry: str = f"{NODE_ADDRESS}:5000", home: Path | None = None) -> None:
        self.registry = registry
        self.home = home or cache_dir() / "buildah"

    @cached_property
    def base(self) -> str:
        """The hash of what the Debian root file system is made from."""
        recipe = "\n".join([*debian.COMMAND, *debian.sources()])
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    def has(self, reference: str) -> bool:
        """Say whether the image is in our storage."""
        return _succeeds(self._buildah("inspect", "--type=image", reference), self._environment())

    def build(self, progress: Progress, image: Image) -> None:
        """Run ``buildah bud``, with the layers of earlier builds."""
        self._ensure_base(progress)
        argv = self._buildah("bud", "--layers", "--network=host", "--pull-never", *_arguments(image, self.base))
        if MACHINE_CERTIFICATES.exists():
            argv.append(f"--volume={MACHINE_CERTIFICATES}:{BUILD_CERTIFICATES}:ro")
            argv += [f"--build-arg={variable}={BUILD_CERTIFICATES}" for variable in CERTIFICATE_VARIABLES]
        progress.run(_describe(image), [*argv, str(image.checkout)], _log(image.name), self._environment())

    def push(self, progress: Progress, image: Image) -> None:
        """Push; layers that the registry has are not sent again."""
        target = f"docker://{self.registry}/{image.name}:{image.key(self.base)}"
        push = ("push", "--tls-verify=false", image.reference(self.base), target)
        progress.run(f"pushing image {image.name}", self._buildah(*push), _log("push"), self._environment())

    def load(self, progress: Progress, references: Iterable[str]) -> None:
        """Have containerd pull, from where it sees the registry by the name that pods use."""
        paths = Paths()
        ctr = network.inside(["ctr", f"--address={paths.containerd_socket}", "--namespace=k8s.io", "images"], paths)
        there = _output([*ctr, "list", "--quiet"]).split()
        for reference in references:
            if reference not in there:
                argv = [*ctr, "pull", "--plain-http", reference]
                progress.run(f"loading image {_short(reference)}", argv, _log("load"))

    def _ensure_base(self, progress: Progress) -> None:
        """Have, under the public name, the Debian that the recipes start from."""
        reference = f"{REPOSITORY}/debian:{self.base}"
        if not self.has(reference):
            archive = self.home / "debian.tar"
            debian.build(progress, archive, _log("debian"))
            with progress.step("keeping it as an image"):
                container = self._run("from", "scratch")
                self._run("add", "--quiet", container, str(archive))
                self._run("config", "--cmd=bash", container)
                self._run("commit", "--quiet", "--rm", container, reference)
            archive.unlink()
        self._run("tag", reference, DEBIAN)

    def _run(self, *arguments: str) -> str:
        return _output(self._buildah(*arguments), self._environment())

    def _buildah(self, *arguments: str) -> list[str]:
        # The run root holds mounts and locks: it must go with a reboot, as /run does.
        return ["buildah", f"--root={self.home / 'storage'}", "--runroot=/run/af-operator-buildah", *arguments]

    def _environment(self) -> dict[str, str]:
        temporary = self.home / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        # chroot needs no container runtime; the caches that recipes mount lie in TMPDIR.
        settings = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay", "TMPDIR": str(temporary)}
        return os.environ | settings


def _short(reference: str) -> str:
    return reference.partition("@")[0].rpartition("/")[2]


def _output(argv: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _succeeds(argv: list[str], env: dict[str, str] | None = None) -> bool:
    return subprocess.run(argv, env=env, capture_output=True, check=False).returncode == 0
