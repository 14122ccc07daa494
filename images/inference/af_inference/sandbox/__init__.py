"""A process that reads what strangers have made: which files, how much of the machine, and nobody else.

The server never opens an uploaded file. Programs of its own do, one for each upload, and each shuts itself in before it
reads the first byte: :func:`enter`. From the outside it is run by :mod:`af_inference.uploads.child`.
"""

import ctypes
import os
import resource
import signal
import site
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from af_inference.sandbox import landlock, seccomp

__all__ = ["Bounds", "enter", "unavailable"]

PR_SET_PDEATHSIG = 1
# What interpreters and numerical libraries look up: libraries, cores, the time zone. Nothing of the pod's own.
SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/null",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self",  # TensorFlow aborts where it cannot read its own command line
    "/sys/devices/system/cpu",
)


@dataclass(frozen=True)
class Bounds:
    """How much of the machine a child may take.

    Attributes
    ----------
    memory
        Bytes of its own that it may hold.
    seconds
        Seconds of processor time, and of the clock.
    file_size
        Bytes of the largest file that it may write.
    """

    memory: int
    seconds: int
    file_size: int


def unavailable() -> str | None:
    """Say what this machine lacks for :func:`enter`; None where nothing is missing."""
    if landlock.version() < 1:
        return "its kernel has no Landlock (Linux 5.13, and `landlock` among its LSMs)"
    if not seccomp.available():
        return "it has no libseccomp (Debian's package libseccomp2)"
    return None


def enter(writable: Path, bounds: Bounds) -> None:
    """Give up, for good, everything but computing, this interpreter's libraries and one directory.

    What goes: every other file, the token among them; every kind of socket; other programs and processes; memory and
    time beyond the bounds. Threads that run already are not shut in, so it comes first.

    Raises
    ------
    OSError
        Where the kernel refuses: nothing has been read by then.
    """
    _end_with_the_server()
    _bound(bounds)
    landlock.restrict(readable=[*SYSTEM, *_interpreter()], writable=[writable])
    seccomp.restrict()


def _end_with_the_server() -> None:
    # Killed itself, it cannot kill this one. The kernel looks at the thread that began it, which waits for it.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) < 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _bound(bounds: Bounds) -> None:
    limits = {
        resource.RLIMIT_DATA: bounds.memory,
        # Also what is shared or mapped from files, of which TensorFlow's libraries alone are a gigabyte.
        resource.RLIMIT_AS: bounds.memory + (4 << 30),
        resource.RLIMIT_CPU: bounds.seconds,
        resource.RLIMIT_FSIZE: bounds.file_size,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (most, most))
    # Where the pod runs out of memory all the same, the kernel takes this process and not the server.
    Path("/proc/self/oom_score_adj").write_text("1000")


def _interpreter() -> Iterable[str]:
    """Return where this interpreter and what it imports lie, both ends of links."""
    places = {
        sys.prefix,
        sys.base_prefix,
        sysconfig.get_path("stdlib"),
        *site.getsitepackages(),
        *filter(None, sys.path),
        str(Path(__file__).parents[1]),
    }
    return sorted(places | {os.path.realpath(place) for place in places})
