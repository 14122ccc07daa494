import shutil
import subprocess
from pathlib import Path

import pytest

from local_cluster import binaries
from local_cluster.embedded import MODULES
from local_cluster.errors import ClusterError
from local_cluster.progress import Progress
from local_cluster.settings import GO_MODULES, cache_dir

VERSION = "go version go1.26.8 linux/amd64"

HELLO = 'package main\n\nfunc main() { println("hello") }\n'


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> binaries.Module:
    """Return a small module of its own, with a cache of its own."""
    sources = tmp_path / "go"
    (sources / "hello").mkdir(parents=True)
    (sources / "hello" / "go.mod").write_text("module hello\n\ngo 1.24.0\n")
    (sources / "hello" / "main.go").write_text(HELLO)
    monkeypatch.setattr(binaries, "GO_MODULES", sources)
    # Only our cache is new: Go's own has the standard library, and is found by the same variable.
    cache = subprocess.run(
        [binaries.go_toolchain(Progress()), "env", "GOCACHE"], capture_output=True, text=True, check=True
    ).stdout.strip()
    monkeypatch.setenv("GOCACHE", cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return binaries.Module("hello")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(GO_MODULES, tmp_path / "go")
    return tmp_path / "go"


def test_the_key_is_of_content_not_of_time(copied: Path) -> None:
    for module in (*MODULES, binaries.KIND, binaries.KWOK):
        assert binaries.key(module, VERSION, copied) == binaries.key(module, VERSION, GO_MODULES)


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "main.go"])
def test_the_key_changes_with_every_source(copied: Path, file: str) -> None:
    before = binaries.key(binaries.COREDNS, VERSION, copied)
    with (copied / "coredns" / file).open("a") as source:
        source.write("\n")
    assert binaries.key(binaries.COREDNS, VERSION, copied) != before


def test_the_key_changes_with_toolchain_and_flags() -> None:
    keys = {
        binaries.key(binaries.COREDNS, VERSION, GO_MODULES),
        binaries.key(binaries.COREDNS, "go version go1.27.0 linux/amd64", GO_MODULES),
        binaries.key(binaries.Module("coredns", link_flags=("-X main.x=y",)), VERSION, GO_MODULES),
    }
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        (VERSION, True),
        ("go version go1.100.1 linux/arm64", True),
        ("go version go2.0 linux/amd64", True),
        ("go version go1.19.8 linux/amd64", False),
        ("", False),
    ],
)
def test_an_old_toolchain_is_noticed(version: str, enough: bool) -> None:
    assert binaries.recent_enough(version) is enough


def test_a_build_is_made_once(module: binaries.Module) -> None:
    assert not binaries.is_built(Progress(), module)
    first = binaries.ensure(Progress(), module)["hello"]
    assert binaries.is_built(Progress(), module)
    made = first.stat().st_mtime_ns
    assert binaries.ensure(Progress(), module)["hello"].stat().st_mtime_ns == made


def test_a_failed_build_says_why_and_leaves_nothing_that_looks_complete(
    module: binaries.Module, tmp_path: Path
) -> None:
    source = tmp_path / "go" / "hello" / "main.go"
    source.write_text("package main\n\nfunc main() { undefinedThing() }\n")
    with pytest.raises(ClusterError, match="undefinedThing"):
        binaries.ensure(Progress(), module)
    assert list((cache_dir() / "bin").iterdir()) == []


def test_kubernetes_plays_its_parts_by_name() -> None:
    source = (GO_MODULES / "kubernetes" / "main.go").read_text()
    assert all(f'"{name}"' in source for name in binaries.KUBERNETES_NAMES)


def test_links_are_replaced_whole(tmp_path: Path) -> None:
    for version in ("1", "2"):
        binaries.link({"kubectl": tmp_path / version}, tmp_path / "local")
    assert (tmp_path / "local" / "bin" / "kubectl").readlink() == tmp_path / "2"
    assert [path.name for path in (tmp_path / "local" / "bin").iterdir()] == ["kubectl"]
