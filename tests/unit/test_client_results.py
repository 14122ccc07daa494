"""Results at a storage: what is stored, what is refused, what comes back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from af_client import storage
from af_client.errors import BadInput, ResultsError, StorageError
from af_client.model import Results, Session
from af_client.pod.upload import OUTSIDE, Uploaded, result_files, stored_name, upload
from af_client.results import RemoteResults, local_path
from af_client.storage import MANIFEST, Storage, StoredFile
from af_names import plain
from tests.support.fake_transport import status

URL = "memory://results/physics/zmumu-1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(storage, "PAUSES", (0.0, 0.0))
    yield
    MemoryFileSystem.store.clear()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    (root / "plots" / "deep").mkdir(parents=True)
    (root / "m.json").write_text('{"a": 1}')
    (root / "plots" / "deep" / "größe 1.png").write_bytes(b"\x00" * 3_000_000)
    (root / "empty").touch()
    return root


def remote(url: str = URL, count: int = 99) -> RemoteResults:
    return RemoteResults(Results(url, count, 0, ()))


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_there_and_back(results: Path, tmp_path: Path, scheme: str) -> None:
    url = URL if scheme == "memory" else f"file://{tmp_path}/store/z-1"
    stored = upload(results, url, 3).stored
    assert [(f.url.removeprefix(url), f.bytes) for f in stored] == [
        ("/empty", 0),
        ("/m.json", 8),
        ("/plots/deep/größe 1.png", 3_000_000),
    ]
    assert stored[0].adler32 == "00000001"
    assert list(remote(url).download(tmp_path / "out")) == stored
    for path in results.rglob("*"):
        if path.is_file():
            assert (tmp_path / "out" / path.relative_to(results)).read_bytes() == path.read_bytes()
    left = [p for p in tmp_path.rglob("*") if ".part" in p.name]
    assert left == []


def test_the_manifest_tells_everything(results: Path) -> None:
    upload(results, URL, 3)
    manifest = json.loads(fsspec.filesystem("memory").cat(f"{URL}/{MANIFEST}"))
    assert {k: manifest[k] for k in ("url", "complete", "exitCode", "count", "bytes")} == {
        "url": URL,
        "complete": True,
        "exitCode": 3,
        "count": 3,
        "bytes": 3_000_008,
    }
    assert manifest["files"][1] == {"url": f"{URL}/m.json", "bytes": 8, "adler32": "09e50229"}


def test_a_second_attempt_replaces_the_first(results: Path, tmp_path: Path) -> None:
    upload(results, URL, 1)
    (results / "m.json").write_text("changed")
    (results / "empty").unlink()
    upload(results, URL, 0)
    fetched = remote().download(tmp_path / "out")
    assert len(fetched) == 2
    assert (tmp_path / "out" / "m.json").read_text() == "changed"


class Failing(MemoryFileSystem):
    """Takes `left` writes, then none; `lies` about sizes."""

    protocol = "failing"
    store: dict[str, Any] = {}  # noqa: RUF012 - as its parent
    left = 0
    lies = False

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        if "w" in mode:
            Failing.left -= 1
            if Failing.left < 0:
                raise OSError("the disk is full")
        return super()._open(path, mode, **more)

    def info(self, path: str, **more: Any) -> dict[str, Any]:
        found = super().info(path, **more)
        return found | {"size": found["size"] + 1} if Failing.lies else found


@pytest.fixture
def failing() -> Iterator[type[Failing]]:
    fsspec.register_implementation("failing", Failing, clobber=True)
    Failing.left, Failing.lies = 0, False
    yield Failing
    Failing.store.clear()


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_an_upload_that_breaks_off_never_looks_complete(results: Path, failing: type[Failing], writes: int) -> None:
    failing.left = 4
    upload(results, "failing://r", 0)  # an earlier attempt that was complete
    failing.left = writes
    with pytest.raises(StorageError, match=r"manifest.json at .* after 3 attempts: the disk is full"):
        upload(results, "failing://r", 0)
    assert not [path for path in failing.store if MANIFEST in path or ".part" in path]
    with pytest.raises(ResultsError, match="incomplete"):
        remote("failing://r").download(results / "out")


def test_a_storage_that_recovers(results: Path, failing: type[Failing], monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def recover(seconds: float) -> None:
        slept.append(seconds)
        failing.left = 9

    monkeypatch.setattr(storage.time, "sleep", recover)
    monkeypatch.setattr(storage, "PAUSES", (1.0, 2.0))
    assert len(upload(results, "failing://r", 0).stored) == 3
    assert slept == [1.0]


def test_sizes_are_verified(results: Path, failing: type[Failing]) -> None:
    failing.left, failing.lies = 99, True
    with pytest.raises(StorageError, match=r"cannot store manifest\.json .* has \d+ bytes at the storage, not \d+"):
        upload(results, "failing://r", 0)


def test_a_lasting_error_is_not_tried_again(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.time, "sleep", lambda _: pytest.fail("tried again"))
    (tmp_path / "plain").write_text("not a directory")
    with pytest.raises(StorageError, match="Not a directory"):
        upload(results, f"file://{tmp_path}/plain/r", 0)


@pytest.mark.parametrize("url", ["nonsense://x/y", "", "root"])
def test_urls_that_nobody_knows(url: str) -> None:
    if url == "nonsense://x/y":
        with pytest.raises(BadInput, match="no fsspec file system for nonsense://"):
            Storage(url)
    else:
        assert Storage(f"/tmp/{url}").fs.protocol[0] == "file"


def test_links_that_leave_are_left_out(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret").write_text("token")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "inner").write_text("token")
    (results / "out.txt").symlink_to(tmp_path / "secret")
    (results / "dangling").symlink_to("nowhere")
    (results / "folder").symlink_to(tmp_path / "dir")
    (results / "loop").symlink_to(results)
    (results / "inside").symlink_to("m.json")
    found = Uploaded()
    names = [name for name, _ in result_files(results, found)]
    assert names == ["empty", "inside", "m.json", "plots/deep/größe 1.png"]
    assert {each.name: each.reason for each in found.missing} == {
        "out.txt": OUTSIDE,
        "folder": OUTSIDE,
        "dangling": "a link to nowhere",
    }
    said = capsys.readouterr().err
    assert "out.txt" in said
    assert "dangling" in said


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("a/b.txt", "a/b.txt"),
        ("größe 1.png", "größe 1.png"),
        ("what?.txt", "what%3F.txt"),
        ("50%.txt", "50%25.txt"),
        ("a#b[1]*.txt", "a%23b%5B1%5D%2A.txt"),
        ("new\nline", "new%0Aline"),
        ("\udcff.bin", "%FF.bin"),
        ("manifest.json", "manifest.json.user"),
        ("manifest.json.user", "manifest.json.user.user"),
        ("sub/manifest.json", "sub/manifest.json"),
    ],
)
def test_stored_names(name: str, stored: str) -> None:
    assert stored_name(name) == stored


def test_names_that_a_url_would_break_survive(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a?.txt", "[x].txt", "*.txt", "manifest.json"):
        (tmp_path / "in" / name).write_text(name)
    upload(tmp_path / "in", f"file://{tmp_path}/r", 0)
    remote(f"file://{tmp_path}/r").download(tmp_path / "out")
    assert sorted(p.read_text() for p in (tmp_path / "out").iterdir()) == [
        "*.txt",
        "[x].txt",
        "a?.txt",
        "manifest.json",
    ]


@pytest.mark.parametrize(
    "name",
    ["../up", "a/../../up", "/etc/passwd", "..", "a\\b", "\0", "link/x", "//x"],
)
def test_paths_that_escape_are_refused(tmp_path: Path, name: str) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "link").symlink_to(tmp_path)
    with pytest.raises(ResultsError, match="leads out of"):
        local_path(URL, StoredFile(f"{URL}/{name}", 1, "00000001"), target)


def test_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="leads out of"):
        local_path(URL, StoredFile("memory://other/x", 1, "00000001"), tmp_path)


def forged(**more: Any) -> None:
    manifest = {"complete": True, "count": 1, "files": [{"url": f"{URL}/x", "bytes": 1, "adler32": "00630063"}]} | more
    Storage(URL).put("x", lambda: io.BytesIO(b"b"))
    Storage(URL).put(MANIFEST, lambda: io.BytesIO(json.dumps(manifest).encode()))


NOTHING: dict[str, Any] = {"complete": False, "files": [], "count": 0}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"complete": False}, "incomplete: their manifest says so"),
        ({"missing": [{"name": "y", "reason": "gone"}]}, "incomplete: their manifest says so"),
        ({"missing": ["y"]}, "is not the manifest of a run"),
        (
            {"complete": False, "files": [], "count": 0, "missing": [{"name": "y\x1b[2J", "reason": "gone"}]},
            "y\\x1b[2J: gone",
        ),
        ({"count": 2}, "incomplete"),
        ({"files": None}, "is not the manifest of a run"),
        ({"files": [{"url": f"{URL}/../x", "bytes": 1, "adler32": "0"}]}, "leads out of"),
        ({"files": [{"url": f"{URL}/x", "bytes": 2, "adler32": "00630063"}]}, "got 1 bytes"),
        (
            {"files": [{"url": f"{URL}/x", "bytes": 1, "adler32": "00620062"}]},
            "with adler32 00630063, the manifest says 1 with 00620062",
        ),
        ({"files": [{"url": f"{URL}/y", "bytes": 1, "adler32": "00620062"}]}, "cannot read"),
    ],
)
def test_what_is_not_as_its_manifest_says(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    forged(**more)
    with pytest.raises((ResultsError, StorageError)) as caught:
        remote().download(tmp_path / "out")
    assert said in str(caught.value)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_the_honest_one_is_fetched(tmp_path: Path) -> None:
    forged()
    remote().download(tmp_path)
    assert (tmp_path / "x").read_bytes() == b"b"


@pytest.mark.parametrize(
    ("mode", "found", "said"),
    [
        ("Interactive", status("Ready"), "has no run"),
        ("Headless", None, "has not ended (not yet looked at)"),
        ("Headless", status("Running"), "has not ended (Running)"),
        ("Headless", status("Failed"), "ended without results"),
    ],
)
def test_no_results_and_why(mode: str, found: dict[str, Any] | None, said: str) -> None:
    session = Session.parse({"metadata": {"name": "z"}, "spec": {"mode": mode}, "status": found})
    with pytest.raises(ResultsError) as caught:
        RemoteResults.of(session)
    assert said in str(caught.value)


def test_a_short_list_needs_no_storage() -> None:
    file = StoredFile("root://nowhere//x", 1, "00000001")
    assert RemoteResults(Results("root://nowhere/", 1, 1, (file,))).files() == [file]


OWN = "root://x//results/physics/zmumu-u"


def of_status(url: str, *files: str) -> Session:
    left = {"url": url, "count": 9, "bytes": 9, "files": [{"url": f, "bytes": 1, "adler32": "00000001"} for f in files]}
    metadata = {"name": "zmumu", "namespace": "physics", "uid": "u", "generation": 1}
    found = status("Succeeded", run={"pod": "p", "results": left})
    return Session.parse({"metadata": metadata, "spec": {"mode": "Headless"}, "status": found})


def test_results_of_the_sessions_own_are_found() -> None:
    assert RemoteResults.of(of_status(OWN, f"{OWN}/a", f"{OWN}/plots/b c.png")).url == OWN


@pytest.mark.parametrize(
    "session",
    [
        of_status("file:///etc"),
        of_status("root://evil//results/physics/zmumu-v"),
        of_status("root://x//results/physics/other-u"),
        of_status(f"simplecache::{OWN}"),
        of_status("root://x//results/../results/physics/zmumu-u"),
        of_status("root://x//re\x1b[2Jsults/physics/zmumu-u"),
        of_status(OWN, "file:///etc/passwd"),
        of_status(OWN, f"{OWN}2/a"),
        of_status(OWN, f"{OWN}/../other-u/a"),
        of_status(OWN, f"{OWN}/gpj.\u202eexe"),
    ],
)
def test_results_that_are_not_the_sessions_own_are_not_read(session: Session) -> None:
    with pytest.raises(ResultsError, match="where none of it can be: nothing is read") as caught:
        RemoteResults.of(session)
    assert plain.is_line(str(caught.value))
