"""buildah and a registry, as the embedded cluster uses them."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from local_cluster import images
from local_cluster.engines import Buildah
from local_cluster.images import Image, ensure_images
from local_cluster.processes import poll
from local_cluster.progress import Progress, tail

pytestmark = [
    pytest.mark.cluster_lifecycle,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("buildah"), reason="buildah builds as root only"),
    pytest.mark.timeout(600),
]


class NoCluster(Buildah):
    """The engine without a node to load images into."""

    def load(self, progress: Progress, references: Iterable[str]) -> None:
        pass


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    config, log = tmp_path / "registry.yml", tmp_path / "registry.log"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/blobs}}}}\nhttp: {{addr: '{address}'}}\n"
    )
    with log.open("wb") as out:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=out, stderr=out)
    try:
        assert poll(lambda: _listens(address), 10), tail(log)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "images/tiny"
    directory.mkdir(parents=True)
    (directory / "Containerfile").write_text(
        "FROM docker.io/library/debian:bookworm-slim\nRUN date +%N > /built\nCOPY images/tiny/hello /hello\n"
    )
    (directory / "hello").write_text(f"hello from {tmp_path}")
    monkeypatch.setattr(images, "PUBLISHED", ("tiny",))
    monkeypatch.setattr(images, "Image", lambda name, where=tmp_path: Image(name, where))
    return tmp_path


def test_build_push_lose_push_edit(registry: str, checkout: Path) -> None:
    engine, progress, references = NoCluster(registry), Progress(Console(quiet=True)), checkout / "images.json"
    first = ensure_images(progress, engine, references)
    kept = [Image("tiny", checkout).reference(engine.base)]
    try:
        assert first["tiny"].startswith("localhost:5000/tiny@sha256:")
        assert ensure_images(progress, engine, references) == first

        # The registry forgets: the same image comes from storage, not another of the same recipe.
        shutil.rmtree(checkout / "blobs/docker/registry/v2/repositories/tiny")
        assert ensure_images(progress, engine, references) == first

        (checkout / "images/tiny/hello").write_text("edited")
        kept.append(Image("tiny", checkout).reference(engine.base))
        assert ensure_images(progress, engine, references) != first
    finally:
        for reference in kept:
            subprocess.run(
                engine._buildah("rmi", reference), env=engine._environment(), capture_output=True, check=False
            )
