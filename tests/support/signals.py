"""Signals for programs in containers, where process 1 is tini and passes on no SIGSTOP and no SIGKILL."""

from __future__ import annotations

from pathlib import Path
from signal import Signals

from tests.support.programs import signal_process
from tests.support.tenant import kubectl

PROGRAM = Path(signal_process.__file__).read_text()


def argv(word: str, which: Signals, *more: str) -> list[str]:
    """Return the command that signals the Python process of a container that was started with this word."""
    return ["python", "-c", PROGRAM, word, which.name, *more]


def send(namespace: str, where: str, word: str, which: Signals) -> None:
    """Signal a process of a pod, or of a Deployment's."""
    # A container whose program is killed takes the exec along.
    kubectl("exec", "--namespace", namespace, where, "--", *argv(word, which), check=which is not Signals.SIGKILL)
