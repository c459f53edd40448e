"""Programs that isolate: where they are, which version they say they are, and which is old enough to refuse."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache

Version = tuple[int, ...]

MINIMUM: dict[str, Version] = {"bwrap": (0, 8, 0), "runsc": (20221219,)}
"""bubblewrap 0.8.0 is the first with `--disable-userns`; gVisor's releases are dates, and this is the oldest that the
hostile programs were run against."""

PACKAGES = {
    "bwrap": "bubblewrap is not installed: `apt-get install bubblewrap` (or your distribution's package).",
    "runsc": "gVisor is not installed: `apt-get install runsc` (or https://gvisor.dev/docs/user_guide/install).",
}


def installed(program: str) -> str | None:
    """Path of a program of the distribution, also where PATH lacks its folder."""
    return shutil.which(program) or shutil.which(program, path="/usr/bin:/usr/sbin:/usr/local/bin")


def missing(program: str) -> str | None:
    """None, or why the program cannot be used, with the mend."""
    path = installed(program)
    if path is None:
        return PACKAGES[program]
    version = version_of(path)
    needed = ".".join(map(str, MINIMUM[program]))
    if version is None:
        return f"{path} does not say its version; {program} {needed} or newer is needed: reinstall it."
    if version < MINIMUM[program]:
        return f"{path} is version {written(program)}; {needed} or newer is needed: upgrade it."
    return None


def written(program: str) -> str:
    """The version as it stands in records; `unknown` where the program is missing or does not say."""
    path = installed(program)
    version = version_of(path) if path is not None else None
    return "unknown" if version is None else ".".join(map(str, version))


@cache
def version_of(path: str) -> Version | None:
    """Read from `bubblewrap 0.8.0`, `runsc version release-20240115.0`, and Debian's `runsc version 0.0~20221219.0`."""
    try:
        found = subprocess.run([path, "--version"], check=False, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\b(?:release-|0\.0~)?(\d+(?:\.\d+)+)", found.stdout.partition("\n")[0])
    return tuple(int(part) for part in match[1].split(".")) if match else None
