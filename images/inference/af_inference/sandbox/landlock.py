"""Landlock: which files this process may read and write from here on. It needs no privilege, and is never undone.

The three system calls have no function in the C library, and the same numbers on all machines.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
PR_SET_NO_NEW_PRIVS = 38

# From linux/landlock.h. Rights that a kernel does not know are refused by it: each has the version that brought it.
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
READ = EXECUTE | READ_FILE | READ_DIR
# Files and directories to write, rename and remove; no links, devices, sockets and pipes.
WRITE = READ | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13 | 1 << 14
FILE = EXECUTE | 1 << 1 | READ_FILE | 1 << 14
FILESYSTEM = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
TCP = {4: 0b11}
ABSTRACT_SOCKETS_AND_SIGNALS = {6: 0b11}

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Return the version of the kernel's Landlock; 0 where it has none, or has it switched off."""
    return max(0, int(_libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), CREATE_RULESET_VERSION)))


def restrict(readable: Iterable[str | Path], writable: Iterable[str | Path]) -> None:
    """Keep this process from every file but these, from TCP, and from signals to others where the kernel can.

    Raises
    ------
    OSError
        Where the kernel refuses one of the steps.
    """
    handled = _known(FILESYSTEM)
    attributes = struct.pack("QQQ", handled, _known(TCP), _known(ABSTRACT_SOCKETS_AND_SIGNALS))
    ruleset = _syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for path in readable:
            _allow(ruleset, path, READ)
        for path in writable:
            _allow(ruleset, path, WRITE)
        _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _syscall(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _known(rights: dict[int, int]) -> int:
    present = version()
    return sum(bits for since, bits in rights.items() if since <= present)


def _allow(ruleset: int, path: str | Path, rights: int) -> None:
    if not Path(path).exists():
        return  # what is not there cannot be read: a slim image lacks some of what others have
    directory = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights &= _known(FILESYSTEM) & (~0 if Path(path).is_dir() else FILE)
        _syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, struct.pack("=Qi", rights, directory), 0)
    finally:
        os.close(directory)


def _syscall(number: int, *arguments: object) -> int:
    return _check(_libc.syscall(number, *arguments))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
