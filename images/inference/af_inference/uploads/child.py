"""The outside of a child: started with nothing of the server's, waited for, killed when its time is over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from af_inference import errors, log
from af_inference.errors import Unprocessable
from af_inference.sandbox import Bounds

ANSWER_BYTES = 65536
LOG_BYTES = 2000
# Threads for each core of a large machine would take the memory that is meant for the model.
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "CUDA_VISIBLE_DEVICES": "",
    "KERAS_BACKEND": "tensorflow",
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
}
# How a process that ended without an answer ended.
DEATHS: dict[int, str] = {
    signal.SIGKILL: "was killed: most likely it needed more memory than there is",
    signal.SIGABRT: "gave up, as libraries do where memory is short",
    signal.SIGXCPU: "took more processor time than it may",
    signal.SIGXFSZ: "wrote a larger file than it may",
}


@dataclass(frozen=True)
class Program:
    """A program of ours that reads what was uploaded.

    Attributes
    ----------
    interpreter
        The Python that runs it, and with it the environment.
    module
        One that calls :func:`af_inference.sandbox.program.main`.
    does
        What it does with the model, as its user is told: ``converting the model``.
    """

    interpreter: str
    module: str
    does: str


class Children:
    """Those that run now; the server's end is theirs too."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._lock = threading.Lock()

    def run(self, program: Program, folder: Path, bounds: Bounds, arguments: Sequence[str] = ()) -> Any:
        """Run a program on a directory, and return what it answers.

        Parameters
        ----------
        folder
            The program's own directory, and the only place where it can write.

        Raises
        ------
        Problem
            What it says to whoever uploads, or how it ended without a word.
        """
        limits = (str(bounds.memory), str(bounds.seconds), str(bounds.file_size))
        argv = [program.interpreter, "-P", "-m", program.module, str(folder), *limits, *arguments]
        with (folder.parent / "answer").open("w+b") as answer, (folder.parent / "log").open("w+b") as said:
            code = self._wait(argv, folder, bounds.seconds, (answer.fileno(), said.fileno()))
            answer.seek(0)
            line = answer.read(ANSWER_BYTES)
            said.seek(max(0, said.seek(0, os.SEEK_END) - LOG_BYTES))
            words = said.read().decode(errors="replace")
        if code != 0:
            log.warning("a child ended without an answer", program=program.module, code=code, said=words)
        return _result(program, bounds, code, line)

    def kill(self) -> None:
        """End all of them at once."""
        with self._lock:
            for group in self._running:
                os.killpg(group, signal.SIGKILL)

    def _wait(self, argv: Sequence[str], folder: Path, seconds: int, streams: tuple[int, int]) -> int | None:
        """Return the exit code; None where the time was over."""
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
            start_new_session=True,
        )
        with self._lock:
            self._running.add(process.pid)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with self._lock:
                self._running.discard(process.pid)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(folder: Path) -> dict[str, str]:
    # A checkout may name its own package so; the images do not.
    kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return ENVIRONMENT | kept | {"HOME": str(folder), "KERAS_HOME": str(folder), "TMPDIR": str(folder)}


def _result(program: Program, bounds: Bounds, code: int | None, line: bytes) -> Any:
    if code is None:
        raise Unprocessable(f"{program.does} took longer than {bounds.seconds} s")
    try:
        answer = json.loads(line)
        if "result" in answer:
            return answer["result"]
        status, words = int(answer["status"]), str(answer["error"])
    except (ValueError, TypeError, KeyError):
        raise Unprocessable(f"{program.does}: the program that does it {_death(code)}") from None
    raise errors.of_status(status)(f"{program.does}: {words}")


def _death(code: int) -> str:
    if code >= 0:
        return f"ended with code {code} and no answer"
    return DEATHS.get(-code, f"crashed ({signal.strsignal(-code)})")
