"""What a record says about where it was made: packages, hardware, the harness's own commit, memory."""

from __future__ import annotations

import functools
import platform
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from results.schema import Environment

PACKAGES = (
    *("torch", "transformers", "peft", "bitsandbytes", "lm-eval", "datasets", "tokenizers"),
    *("numpy", "nevergrad", "scikit-learn"),
)


@functools.cache
def environment(device: str) -> Environment:
    """Versions, hardware and commit, read once per process."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    commit, dirty = git_state()
    return Environment(
        packages=versions,
        python=platform.python_version(),
        hardware=hardware(device),
        git_commit=commit,
        git_dirty=dirty,
    )


def release() -> str:
    """The installed harness's version; empty in a checkout that is not installed."""
    try:
        return metadata.version("lora-harness")
    except metadata.PackageNotFoundError:
        return ""


def hardware(device: str) -> str:
    """One line on the machine: accelerator or processor, cores, memory."""
    import psutil

    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    if device.startswith("cuda"):
        import torch

        found = [torch.cuda.get_device_properties(card) for card in _cards(device)]
        cards = Counter(f"{one.name}, {one.total_memory / 2**30:.0f} GiB" for one in found)
        named = "; ".join(f"{count} x {card}" if count > 1 else card for card, count in cards.items())
        return f"{named}; host {memory}"
    cores = psutil.cpu_count(logical=True)
    return f"{_processor()}, {cores} cores, {memory}"


def _cards(device: str) -> list[str]:
    """The GPUs that are meant: one by its number, or all of them by `cuda`, over which a base model is spread."""
    import torch

    return [device] if ":" in device else [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def git_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout the harness runs from; (None, None) when installed elsewhere."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None, None
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    except OSError:  # not to be run here
        return None, None
    if commit.returncode or status.returncode:
        return None, None
    return commit.stdout.strip(), bool(status.stdout.strip())


def peak_memory(device: str) -> int:
    """Peak bytes since the process started (CPU: resident set) or since the last reset (GPU: allocated)."""
    if device.startswith("cuda"):
        import torch

        return sum(int(torch.cuda.max_memory_allocated(card)) for card in _cards(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass
class Peak:
    """Most memory of a phase in bytes so far, and once it is over; None where the system cannot tell it from what went
    before."""

    so_far: Callable[[], int | None] = lambda: None
    bytes: int | None = None


@contextmanager
def phase_peak(device: str) -> Iterator[Peak]:
    """Measure the peak of what runs inside: allocated memory of a GPU, else the process's resident set.

    Linux alone lets a process restart its own mark, by writing 5 to `clear_refs` (proc_pid_clear_refs(5)).
    """
    peak = Peak()
    if device.startswith("cuda"):
        import torch

        for card in _cards(device):
            torch.cuda.reset_peak_memory_stats(card)
        peak.so_far = lambda: peak_memory(device)
        yield peak
        peak.bytes = peak.so_far()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        yield peak
        return
    peak.so_far = _resident_mark
    yield peak
    peak.bytes = peak.so_far()


def _resident_mark() -> int:
    """`VmHWM` of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    kibibytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(kibibytes)
