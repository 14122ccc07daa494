"""The project's images: built where their inputs changed, and pushed to the cluster's registry.

An image is known by its key, a hash over its Containerfile, every file that this copies, and the keys of the images
it stands on. The key is the tag: what has it is up to date, whatever the time stamps say.
"""

import hashlib
import http.client
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from local_cluster.errors import ClusterError
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT, LOCAL

# Those that pods name; the others are only built upon.
PUBLISHED = (
    "operator",
    "analysis",
    "spark",
    "root",
    "ml",
    "xcache",
    "hub",
    "origin",
    "inference",
    "inference_convert",
    "models",
)
REFERENCES = LOCAL / "images.json"
# Pods name the registry so on every kind of cluster: containerd takes plain http from localhost.
REGISTRY_IN_CLUSTER = "localhost:5000"
REPOSITORY = "localhost/af-operator"
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


@dataclass(frozen=True)
class Image:
    """One directory of ``images/``."""

    name: str
    checkout: Path = CHECKOUT

    @property
    def containerfile(self) -> Path:
        """The recipe."""
        return self.checkout / "images" / self.name / "Containerfile"

    def parents(self) -> list["Image"]:
        """Return the images of ours that this one is built upon: ``FROM ${NAME}``."""
        names = re.findall(r"^FROM \$\{(\w+)\}", self.containerfile.read_text(), re.MULTILINE)
        return [Image(name.lower(), self.checkout) for name in dict.fromkeys(names)]

    def lineage(self) -> list["Image"]:
        """Return this image and all of ours that go into it."""
        return [self, *(each for parent in self.parents() for each in parent.lineage())]

    def sources(self) -> list[Path]:
        """Return what the recipe copies from the checkout: files and directories."""
        copies = re.findall(r"^COPY (?!--from)(.+) \S+$", self.containerfile.read_text(), re.MULTILINE)
        sources = [source for copy in copies for source in copy.split()]
        # What matches nothing stays as it is written: it is missing, and the build will say so.
        return [path for each in sources for path in sorted(self.checkout.glob(each)) or [self.checkout / each]]

    def files(self) -> list[Path]:
        """Return every file that the image is made from, its recipe first."""
        return [self.containerfile, *_files(self.sources())]

    def key(self, base: str) -> str:
        """Return the hash of everything that goes into the image, upon a Debian known as ``base``."""
        digest = hashlib.sha256(base.encode())
        for parent in self.parents():
            digest.update(parent.key(base).encode())
        for file in self.files():
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(self.checkout)} {content}\n".encode())
        return digest.hexdigest()[:16]

    def reference(self, base: str) -> str:
        """Return the name in the engine's own storage."""
        return f"{REPOSITORY}/{self.name}:{self.key(base)}"


def _files(sources: Iterable[Path]) -> Iterable[Path]:
    for source in sources:
        found = sorted(source.rglob("*")) if source.is_dir() else [source]
        # Bytecode depends on who ran what: it says nothing about the sources.
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)


class Engine(Protocol):
    """What builds and keeps images on this machine."""

    @property
    def base(self) -> str:
        """What the recipes' Debian is known by; another value makes every image another."""

    @property
    def registry(self) -> str:
        """The cluster's registry, host:port as this machine reaches it."""

    def has(self, reference: str) -> bool:
        """Say whether the image is in the engine's storage."""

    def build(self, progress: Progress, image: Image) -> None:
        """Build the image under its reference; its parents are there."""

    def push(self, progress: Progress, image: Image) -> None:
        """Copy the image to the registry, as ``<name>:<key>``."""

    def load(self, progress: Progress, references: Iterable[str]) -> None:
        """Let the node pull what it lacks, so that no pod waits for it."""


def ensure_images(progress: Progress, engine: Engine, references: Path = REFERENCES) -> dict[str, str]:
    """Build and push what is missing; return image name -> reference as pods name it, and write that to a file."""
    with _snapshot([Image(name) for name in PUBLISHED]) as images:
        found = {image.name: _ensure(progress, engine, image) for image in images}
    engine.load(progress, found.values())
    _write(references, found)
    return found


def _ensure(progress: Progress, engine: Engine, image: Image) -> str:
    tag = image.key(engine.base)
    digest = manifest_digest(engine.registry, image.name, tag)
    if digest is None:
        _ensure_built(progress, engine, image)
        engine.push(progress, image)
        digest = manifest_digest(engine.registry, image.name, tag)
    if digest is None:
        raise ClusterError(f"{image.name}:{tag} is pushed to {engine.registry}, which lacks it: is its disk full?")
    return f"{REGISTRY_IN_CLUSTER}/{image.name}@{digest}"


@contextmanager
def _snapshot(images: Iterable[Image]) -> Iterator[list[Image]]:
    """Build from a copy of the inputs: an edit during a build would put new content under the key of the old."""
    with tempfile.TemporaryDirectory(prefix="af-images-") as directory:
        for image in images:
            for one in image.lineage():
                for file in one.files():
                    copy = Path(directory) / file.relative_to(one.checkout)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file, copy)
        yield [Image(image.name, Path(directory)) for image in images]


def _ensure_built(progress: Progress, engine: Engine, image: Image) -> None:
    if engine.has(image.reference(engine.base)):
        return
    for parent in image.parents():
        _ensure_built(progress, engine, parent)
    engine.build(progress, image)


def _write(path: Path, references: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(references, indent=2, sort_keys=True) + "\n")
    partial.rename(path)


def manifest_digest(registry: str, name: str, tag: str) -> str | None:
    """Return the digest that a plain http registry has under a tag, None where it has none."""
    # Not urllib: it would send this through a proxy of the environment.
    connection = http.client.HTTPConnection(registry, timeout=5)
    try:
        connection.request("HEAD", f"/v2/{name}/manifests/{tag}", headers={"Accept": ", ".join(MANIFEST_TYPES)})
        response = connection.getresponse()
    except OSError as error:
        raise ClusterError(f"No registry answers at {registry} ({error}): `make cluster` starts it.") from error
    finally:
        connection.close()
    if response.status == 404:
        return None
    if response.status != 200 or not (digest := response.headers.get("Docker-Content-Digest")):
        raise ClusterError(f"The registry at {registry} answers {response.status} for {name}:{tag}; see its log.")
    return digest
