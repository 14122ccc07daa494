"""A child that runs hostile code: what it can still do. Each attempt is made inside, for real."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from af_inference.errors import Problem, Unprocessable
from af_inference.sandbox import Bounds, landlock, seccomp, unavailable
from af_inference.uploads.child import Children, Program

MIB = 1 << 20
BOUNDS = Bounds(memory=256 * MIB, seconds=20, file_size=8 * MIB)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stage/work").mkdir(parents=True)
    return tmp_path / "stage/work"


def run(
    folder: Path,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    bounds: Bounds = BOUNDS,
    children: Children | None = None,
) -> object:
    """Run the body of a function inside a child, and return what it returns."""
    programs = folder.parent.parent / "programs"
    programs.mkdir(exist_ok=True)
    body = textwrap.indent(textwrap.dedent(code), "    ")
    # Another name each time: two of one size and one second are one to the cache of bytecode.
    program = f"hostile_{len(list(programs.glob('*.py')))}"
    (programs / f"{program}.py").write_text(
        f"import os, socket, sys, ctypes\nfrom af_inference.sandbox import program\n"
        f"def work(folder, arguments):\n{body}\nprogram.main(work)\n"
    )
    package = str(Path(landlock.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", f"{programs}:{package}")
    return (children or Children()).run(Program(sys.executable, program, "trying"), folder, bounds)


def test_this_machine_can_shut_a_child_in() -> None:
    assert unavailable() is None


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        ("socket.socket()", "PermissionError"),
        ("socket.socket(socket.AF_UNIX)", "PermissionError"),
        ("socket.socketpair()", "PermissionError"),
        ("os.fork()", "PermissionError"),
        ("os.execv('/bin/true', ['true'])", "PermissionError"),
        ("os.posix_spawn('/bin/true', ['true'], {})", "PermissionError"),
        ("os.kill(os.getppid(), 0)", "PermissionError"),
        ("os.pidfd_open(os.getppid())", "PermissionError"),
        ("open(f'/proc/{os.getppid()}/environ')", "PermissionError"),
        ("open(f'/proc/{os.getppid()}/mem')", "PermissionError"),
        ("open('/etc/passwd')", "PermissionError"),
        ("os.listdir('/')", "PermissionError"),
        ("os.listdir('/tmp')", "PermissionError"),
        ("os.symlink('/etc/passwd', folder / 'link')", "PermissionError"),
        ("os.mkfifo(folder / 'pipe')", "PermissionError"),
        ("os.link('/usr/bin/env', folder / 'link')", "PermissionError|cross-device"),
        ("open('/dev/shm/x', 'w')", "PermissionError"),
        ("__import__('resource').prlimit(os.getppid(), 7, (9, 9))", "PermissionError"),
        ("os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)", "PermissionError"),
    ],
)
def test_a_child_cannot(folder: Path, monkeypatch: pytest.MonkeyPatch, attempt: str, error: str) -> None:
    with pytest.raises(Unprocessable, match=error):
        run(folder, f"return str({attempt})", monkeypatch)


def test_a_child_reads_neither_the_token_nor_what_is_beside_its_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = folder.parent.parent / "token"
    token.write_text("s3cret")
    for path in (token, folder.parent / "answer"):
        with pytest.raises(Unprocessable, match="PermissionError"):
            run(folder, f"return open({str(path)!r}).read()", monkeypatch)
    for change in (f"os.truncate({str(token)!r}, 0)", f"os.chmod({str(token)!r}, 0)", f"os.unlink({str(token)!r})"):
        with pytest.raises(Unprocessable, match="PermissionError"):
            run(folder, change, monkeypatch)
    assert token.read_text() == "s3cret"


def test_a_child_has_nothing_of_the_servers_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF_INFERENCE_TOKEN", "s3cret")
    seen = run(folder, "return dict(os.environ)", monkeypatch)
    assert isinstance(seen, dict)
    assert "AF_INFERENCE_TOKEN" not in seen
    assert seen["HOME"] == seen["TMPDIR"] == str(folder)


def test_a_child_has_no_open_file_of_the_servers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder.parent.parent / "token").open("w") as opened:
        os.set_inheritable(opened.fileno(), True)
        assert run(folder, "return sorted(map(int, os.listdir('/proc/self/fd')))[:3]", monkeypatch) == [0, 1, 2]
        with pytest.raises(Unprocessable, match="OSError"):
            run(folder, f"return str(os.fstat({opened.fileno()}))", monkeypatch)


def test_a_child_computes_writes_and_starts_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
    import threading, numpy
    (folder / "new").mkdir()
    (folder / "new/file").write_text("x")
    (folder / "new/file").rename(folder / "other")
    found = []
    thread = threading.Thread(target=lambda: found.append(float(numpy.ones(3).sum())))
    thread.start(); thread.join()
    return found + [(folder / "other").read_text()]
    """
    assert run(folder, code, monkeypatch) == [3.0, "x"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("return len(bytearray(512 << 20))", "more memory"),
        ("import mmap; return len(mmap.mmap(-1, 8 << 30))", "memory"),
        ("open(folder / 'large', 'wb').write(bytes(9 << 20))", "OSError|larger file"),
        ("os.kill(os.getpid(), 9)", "was killed"),
        ("os.abort()", "gave up"),
        ("ctypes.string_at(0)", "crashed \\(Segmentation fault\\)"),
        ("os._exit(3)", "ended with code 3"),
        ("os.write(3, b'x' * 70000); os._exit(0)", "no answer|OSError"),
        ("raise ValueError('x' * 5000)", "ValueError: x{500}$"),
    ],
)
def test_a_childs_end_is_said_in_words(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    with pytest.raises(Unprocessable, match=words) as caught:
        run(folder, code, monkeypatch)
    assert str(caught.value).startswith("trying: ")


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(60)"])
def test_a_childs_time_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    with pytest.raises(Unprocessable, match=r"time|longer than 1 s"):
        run(folder, code, monkeypatch, Bounds(256 * MIB, 1, MIB))


def test_a_child_that_prints_still_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(folder, "print('{}'); os.write(1, b'noise'); return 1", monkeypatch) == 1


@pytest.mark.parametrize(("status", "expected"), [(413, 413), (401, 422), (200, 422), ("'x'", 422)])
def test_what_a_child_says_makes_no_other_error_than_an_upload_can(
    folder: Path, monkeypatch: pytest.MonkeyPatch, status: object, expected: int
) -> None:
    answer = "[n for n in range(3, 9) if os.path.exists(f'/proc/self/fd/{n}')][0]"
    code = f"import json; os.write({answer}, json.dumps({{'status': {status}, 'error': 'x'}}).encode()); os._exit(0)"
    with pytest.raises(Problem) as caught:
        run(folder, code, monkeypatch)
    assert caught.value.status == expected


def test_children_end_with_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children()

    def kill_the_first() -> None:
        while not children._running:
            time.sleep(0.01)
        children.kill()

    killing = threading.Thread(target=kill_the_first)
    killing.start()
    with pytest.raises(Unprocessable, match="was killed"):
        run(folder, "import time; time.sleep(60)", monkeypatch, Bounds(256 * MIB, 60, MIB), children)
    killing.join()


def test_a_machine_without_the_means_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "LIBRARY", "libnowhere.so")
    assert "libseccomp2" in str(unavailable())
    monkeypatch.setattr(landlock, "version", lambda: 0)
    assert "Landlock" in str(unavailable())
