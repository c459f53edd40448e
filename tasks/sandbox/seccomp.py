"""The system calls that a candidate needs, as a BPF program; all others are refused with EPERM.

An allow-list: no processes or threads, no sockets but a private pair of streams, no signals to others, no namespaces,
mounts, tracing, keys, io_uring or System V memory, and nothing that changes a file's metadata.
"""

from __future__ import annotations

import errno
import tempfile
from functools import cache
from typing import Literal

Stage = Literal["launch", "run"]

GROUPS = {
    "files": """
        read readv pread64 preadv write writev pwrite64 close lseek open openat stat fstat lstat newfstatat
        fstatat64 statx access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd chdir fchdir
        fadvise64 ftruncate pipe pipe2 dup dup2 dup3 umask
    """,
    "memory": "mmap munmap mprotect mremap madvise brk",
    "clocks": """
        clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getitimer setitimer alarm
    """,
    "waiting": """
        poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2 futex
        recvfrom shutdown
    """,
    "identity": """
        getpid getppid gettid getuid geteuid getgid getegid getgroups getresuid getresgid getpgrp getsid uname
        sysinfo getrusage getrlimit sched_getaffinity sched_yield getcpu getrandom
    """,
    "process": """
        rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending sigaltstack set_tid_address set_robust_list rseq
        arch_prctl restart_syscall exit exit_group wait4
    """,
}
ALLOWED = tuple(name for names in GROUPS.values() for name in names.split())

LAUNCH_ONLY = ("execve", "prctl", "seccomp", "setrlimit", "prlimit64")
"""Needed to start the interpreter and to install the second filter, which no longer has them."""

AF_UNIX = 1
SOCK_STREAM = 1
SOCK_TYPE_MASK = 0xF
# TCGETS, FIOCLEX, FIONCLEX, FIONBIO, FIONREAD: not TIOCSTI, which types into the user's terminal.
IOCTLS = (0x5401, 0x5451, 0x5450, 0x5421, 0x541B)
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC: not F_SETOWN, which sends signals.
FCNTLS = (0, 1, 2, 3, 4, 1030)


@cache
def program(stage: Stage) -> bytes:
    """BPF instructions for the running architecture.

    Raises:
        ImportError, RuntimeError: pyseccomp or the libseccomp library is missing.
    """
    import pyseccomp as seccomp

    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    allowed = (*ALLOWED, *LAUNCH_ONLY) if stage == "launch" else ALLOWED
    for name in allowed:
        if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0:
            rules.add_rule(seccomp.ALLOW, name)
    for request in IOCTLS:
        rules.add_rule(seccomp.ALLOW, "ioctl", seccomp.Arg(1, seccomp.EQ, request))
    for command in FCNTLS:
        rules.add_rule(seccomp.ALLOW, "fcntl", seccomp.Arg(1, seccomp.EQ, command))
    # A datagram with an address would reach any Unix socket of the host by its path. For the same reason `sendmsg`,
    # whose address lies in memory that a filter cannot read, is not allowed at all.
    stream = seccomp.Arg(1, seccomp.MASKED_EQ, SOCK_TYPE_MASK, SOCK_STREAM)
    rules.add_rule(seccomp.ALLOW, "socketpair", seccomp.Arg(0, seccomp.EQ, AF_UNIX), stream)
    rules.add_rule(seccomp.ALLOW, "sendto", seccomp.Arg(4, seccomp.EQ, 0))
    if stage == "run":
        only_ask = seccomp.Arg(2, seccomp.EQ, 0)
        rules.add_rule(seccomp.ALLOW, "prlimit64", seccomp.Arg(0, seccomp.EQ, 0), only_ask)
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def version() -> str:
    """Of the binding, and the level of the library's interface."""
    import pyseccomp as seccomp

    return f"pyseccomp {seccomp.__version__}, libseccomp interface {seccomp.get_api()}"
