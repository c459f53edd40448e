"""Calls rarely needed parts of the kernel, with arguments that an open door answers otherwise than with EPERM."""
import ctypes
import errno
import platform

NUMBERS = {
    "x86_64": {
        "shmget": 29, "semget": 64, "msgget": 68, "syslog": 103, "personality": 135, "pivot_root": 155,
        "acct": 163, "swapon": 167, "reboot": 169, "init_module": 175, "add_key": 248, "request_key": 249,
        "keyctl": 250, "perf_event_open": 298, "fanotify_init": 300, "open_by_handle_at": 304, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "seccomp": 317, "memfd_create": 319,
        "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "clone3": 435,
        "pidfd_open": 434, "pidfd_getfd": 438, "mount_setattr": 442, "landlock_create_ruleset": 444,
    },
    "aarch64": {
        "setns": 268, "add_key": 217, "keyctl": 219, "perf_event_open": 241, "bpf": 280, "userfaultfd": 282,
        "io_uring_setup": 425, "clone3": 435, "pidfd_getfd": 438,
    },
}


def attack():
    libc = ctypes.CDLL(None, use_errno=True)
    answered = []
    for name, number in NUMBERS.get(platform.machine(), {}).items():
        ctypes.set_errno(0)
        if libc.syscall(number, -1, -1, -1, -1, -1, -1) != -1 or ctypes.get_errno() != errno.EPERM:
            answered.append(name)
    return answered
