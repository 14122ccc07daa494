"""seccomp: which system calls this process may make from here on, through libseccomp, which knows them by name.

What is denied fails with EPERM, which libraries expect. Landlock has no say in these calls, or only in newer kernels.
"""

import ctypes
import errno
import os

LIBRARY = "libseccomp.so.2"
ALLOW = 0x7FFF0000
DENY = 0x00050000 | errno.EPERM
# glibc asks for threads by clone3, whose flags no filter can see, and falls back to clone where there is none.
ABSENT = 0x00050000 | errno.ENOSYS

# No way out: to the network, to another program, to another process, around the filter, to files' owners and modes.
DENIED = (
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "io_uring_setup"),
    *("execve", "execveat", "fork", "vfork"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kcmp"),
    *("rt_sigqueueinfo", "rt_tgsigqueueinfo", "tkill", "setpriority", "ioprio_set", "sched_setattr"),
    *("sched_setparam", "sched_setscheduler", "migrate_pages", "move_pages", "process_madvise"),
    *("unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "bpf", "perf_event_open", "userfaultfd"),
    *("keyctl", "add_key", "request_key", "open_by_handle_at", "name_to_handle_at"),
    *("chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "truncate", "setxattr", "lsetxattr"),
    *("mq_open", "shmget", "msgget", "semget"),
)
# Of chmod's family, younger than the library in Debian 12; the same number on all machines.
DENIED_BY_NUMBER = (452,)  # fchmodat2
ITS_OWN_ONLY = ("kill", "tgkill")
CLONE_THREAD = 0x00010000
NOT_EQUAL, MASKED_EQUAL = 1, 7


class _Argument(ctypes.Structure):
    """One comparison of an argument: ``struct scmp_arg_cmp``."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def available() -> bool:
    """Say whether libseccomp is on this machine."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def restrict() -> None:
    """Deny this process, and the threads that it will start, what it has no need of.

    Raises
    ------
    OSError
        Where the library is missing, or the kernel refuses the filter.
    """
    library = ctypes.CDLL(LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    filter_ = library.seccomp_init(ALLOW)
    for name in DENIED:
        _rule(filter_, DENY, _number(library, name))
    for number in DENIED_BY_NUMBER:
        _rule(filter_, DENY, number)
    _rule(filter_, ABSENT, _number(library, "clone3"))
    _rule(filter_, DENY, _number(library, "clone"), _Argument(0, MASKED_EQUAL, CLONE_THREAD, 0))
    for name in ITS_OWN_ONLY:
        _rule(filter_, DENY, _number(library, name), _Argument(0, NOT_EQUAL, os.getpid(), 0))
    # 0 is the process itself.
    _rule(filter_, DENY, _number(library, "prlimit64"), _Argument(0, NOT_EQUAL, 0, 0))
    _check(library.seccomp_load(filter_))


def _number(library: ctypes.CDLL, name: str) -> int:
    number = int(library.seccomp_syscall_resolve_name(name.encode()))
    if number == -1:
        raise OSError(errno.ENOSYS, f"seccomp: this libseccomp does not know {name}")
    return number


def _rule(filter_: int, action: int, number: int, *arguments: _Argument) -> None:
    add = ctypes.CDLL(LIBRARY).seccomp_rule_add_array
    add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Argument)]
    # What another architecture lacks has a negative number there, and needs no rule.
    _check(add(filter_, action, number, len(arguments), (_Argument * max(1, len(arguments)))(*arguments)))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, f"seccomp: {os.strerror(-result)}")
