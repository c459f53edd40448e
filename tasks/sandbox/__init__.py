"""Runs generated code locked up, and judges it where it cannot reach.

Two separate duties. *Isolation*: the candidate's process runs at the strongest level that works here and is refused
below a minimum. *Integrity of the verdict*: the check runs in another process and sees values of the library's types
only, so nothing that a candidate defines, prints or does to its process can make it pass.
"""

from tasks.sandbox.cgroup import control_groups
from tasks.sandbox.evaluate import evaluate_programs
from tasks.sandbox.levels import NAMES, doctor, level_versions, strongest
from tasks.sandbox.model import Limits, Outcome, Probe, Program, SandboxUnavailable, Verdict

__all__ = [
    "NAMES",
    "Limits",
    "Outcome",
    "Probe",
    "Program",
    "SandboxUnavailable",
    "Verdict",
    "control_groups",
    "doctor",
    "evaluate_programs",
    "level_versions",
    "strongest",
]
