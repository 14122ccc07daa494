"""A result that cannot be read, stored or fetched costs none of the others: it is named, and the exit code says so."""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from af_client import storage
from af_client.errors import ResultsIncomplete, StorageError
from af_client.model import Results
from af_client.pod import upload as upload_module
from af_client.pod.upload import OUTSIDE, upload
from af_client.results import RemoteResults
from af_client.storage import MANIFEST
from local_cluster.settings import CHECKOUT

PLAIN = ("a.txt", "z/z.txt")


class Picky(MemoryFileSystem):
    """A storage with an error for some names."""

    protocol = "picky"
    store: dict[str, Any] = {}  # noqa: RUF012 - as its parent
    refused: dict[str, OSError] = {}  # noqa: RUF012
    asked = 0

    def mv(self, path1: str, path2: str, **more: Any) -> None:
        Picky.asked += 1
        for part, error in Picky.refused.items():
            if part in path2:
                raise error
        super().mv(path1, path2, **more)


@pytest.fixture(autouse=True)
def picky(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Picky]]:
    monkeypatch.setattr(storage, "PAUSES", (0.0, 0.0))
    fsspec.register_implementation("picky", Picky, clobber=True)
    Picky.refused, Picky.asked = {}, 0
    yield Picky
    Picky.store.clear()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    (root / "z").mkdir(parents=True)
    for name in PLAIN:
        (root / name).write_text(name)
    return root


def fetched(url: str, target: Path) -> ResultsIncomplete:
    with pytest.raises(ResultsIncomplete) as caught:
        RemoteResults(Results(url, 99, 0, ())).download(target)
    for name in PLAIN:
        assert (target / name).read_text() == name
    assert not [path for path in target.rglob("*") if ".part" in path.name]
    return caught.value


def odd(results: Path, what: str) -> str:
    """Put something odd among the results, and return its name."""
    path = results / "odd"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    elif what == "dangling link":
        path.symlink_to("nowhere")
    elif what == "link to itself":
        path.symlink_to("odd")
    elif what == "link outwards":
        path.symlink_to("/etc/hostname")
    elif what == "directory outwards":
        path.symlink_to("/etc")
    elif what == "control characters":
        path = results / "odd\x1b[2J\nname"
        os.mkfifo(path)
    else:
        path = Path(os.fsdecode(os.fsencode(results) + b"/odd\xff"))
        os.mkfifo(path)
    return path.name


@pytest.mark.parametrize(
    ("what", "shown", "reason"),
    [
        ("fifo", "odd", "no plain file"),
        ("socket", "odd", "no plain file"),
        ("dangling link", "odd", "a link to nowhere"),
        ("link to itself", "odd", "a link to "),
        ("link outwards", "odd", OUTSIDE),
        ("directory outwards", "odd", OUTSIDE),
        ("control characters", "odd\\x1b[2J name", "no plain file"),
        ("bytes that are no text", "odd\\xff", "no plain file"),
    ],
)
def test_what_is_no_plain_file_is_named(results: Path, tmp_path: Path, what: str, shown: str, reason: str) -> None:
    odd(results, what)
    found = upload(results, "picky://r", 0)
    assert [each.name for each in found.missing] == [shown]
    assert found.missing[0].reason.startswith(reason)
    manifest = json.loads(storage.Storage("picky://r").read(MANIFEST))
    assert (manifest["complete"], manifest["count"]) == (False, 2)
    assert manifest["missing"] == [{"name": shown, "reason": found.missing[0].reason}]
    error = fetched("picky://r", tmp_path / "out")
    assert error.exit_code == 74
    assert f"2 files in {tmp_path}/out; missing:\n  {shown}: {reason}" in str(error)


UNREADABLE = """
import json, os, pathlib, sys
root = pathlib.Path(sys.argv[1])
(root / "secret").write_text("x")
(root / "secret").chmod(0)
(root / "closed").mkdir()
(root / "closed" / "in").write_text("x")
(root / "closed").chmod(0)
for path in (root, root / "z", root / "a.txt", root / "z" / "z.txt"):
    os.chown(path, 65534, 65534)
os.chown(root / "secret", 65534, 65534)
os.chown(root / "closed", 65534, 65534)
from af_client.pod.upload import upload
import fsspec.implementations.memory
os.setuid(65534)
found = upload(root, "memory://r", 0)
print(json.dumps([[f.url for f in found.stored], {m.name: m.reason for m in found.missing}]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not read")
def test_what_may_not_be_read_is_named(results: Path) -> None:
    # All of the way there must be open to whom the child becomes.
    for folder in results.parents:
        if folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    argv = [sys.executable, "-c", UNREADABLE, str(results)]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=True)
    stored, missing = json.loads(done.stdout)
    assert [url.removeprefix("memory://r/") for url in stored] == list(PLAIN)
    assert missing == {"closed": "Permission denied", "secret": "cannot read it: Permission denied"}
    assert "af-run: closed: Permission denied: not among the results" in done.stderr


def test_what_vanishes_meanwhile_is_named_and_not_waited_for(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.time, "sleep", lambda _: pytest.fail("tried again"))
    (results / "b.txt").touch()
    opened = Picky._open

    def vanish(self: Picky, path: str, mode: str = "rb", **more: Any) -> Any:
        (results / "b.txt").unlink(missing_ok=True)
        return opened(self, path, mode, **more)

    # It was seen as a file, and goes before it is opened.
    monkeypatch.setattr(upload_module, "_why_not", lambda *_: "")
    monkeypatch.setattr(Picky, "_open", vanish)
    found = upload(results, "picky://r", 0)
    assert [each.name for each in found.missing] == ["b.txt"]
    assert found.missing[0].reason == "cannot read it: No such file or directory"
    assert len(found.stored) == 2


@pytest.mark.parametrize("error", [OSError("no such luck"), PermissionError(errno.EACCES, "not yours")])
def test_one_that_the_storage_refuses_costs_no_other(results: Path, tmp_path: Path, error: OSError) -> None:
    (results / "b.txt").touch()
    Picky.refused = {"b.txt": error}
    found = upload(results, "picky://r", 0)
    assert [each.name for each in found.missing] == ["b.txt"]
    assert [file.url for file in found.stored] == ["picky://r/a.txt", "picky://r/z/z.txt"]
    assert not [path for path in Picky.store if ".part" in path]
    assert [name for name, _ in fetched("picky://r", tmp_path / "out").missing] == ["b.txt"]


def test_a_storage_that_is_gone_is_not_asked_for_ever(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a thousand files would cost its own attempts."""
    for number in range(30):
        (results / f"{number:02}").touch()
    Picky.refused = {"/r": OSError("gone")}
    hours = iter(range(0, 10_000, 10))
    monkeypatch.setattr(storage.time, "monotonic", lambda: float(next(hours)))
    with pytest.raises(StorageError, match=r"manifest\.json"):
        upload(results, "picky://r", 0)
    # The first one three times, others once in a minute, the manifest three times again.
    assert 6 < Picky.asked < 20


def test_what_does_not_fit_here_costs_no_other(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.time, "sleep", lambda _: pytest.fail("tried again"))
    (results / "large").write_bytes(b"x" * 100)
    (results / "y").mkdir()
    (results / "y" / "x.txt").touch()
    upload(results, "picky://r", 0)
    target = tmp_path / "out"
    target.mkdir()
    (target / "y").write_text("a file where a directory is to be")
    chunks = storage.Checked.chunks

    def full(self: storage.Checked, source: Any) -> Iterator[bytes]:
        for chunk in chunks(self, source):
            if len(chunk) == 100:
                raise OSError(errno.ENOSPC, "No space left on device")
            yield chunk

    monkeypatch.setattr(storage.Checked, "chunks", full)
    error = fetched("picky://r", target)
    assert [name for name, _ in error.missing] == ["large", "y/x.txt"]
    assert "No space left on device" in str(error)


def test_a_name_as_long_as_can_be(results: Path, tmp_path: Path) -> None:
    (results / ("n" * 255)).touch()
    url = f"file://{tmp_path}/store"
    assert len(upload(results, url, 0).stored) == 3
    assert len(RemoteResults(Results(url, 99, 0, ())).download(tmp_path / "out")) == 3


def test_a_manifest_that_leads_out_of_the_directory_costs_no_other(results: Path, tmp_path: Path) -> None:
    upload(results, "picky://r", 0)
    manifest = json.loads(storage.Storage("picky://r").read(MANIFEST))
    manifest["files"].append({"url": "picky://r/../../x", "bytes": 1, "adler32": "00630063"})
    text = json.dumps(manifest | {"count": 3}).encode()
    storage.Storage("picky://r").put(MANIFEST, lambda: io.BytesIO(text))
    assert "leads out of" in str(fetched("picky://r", tmp_path / "out"))
