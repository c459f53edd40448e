"""Mistakes in what is asked of a report."""

from __future__ import annotations

from results.ground.errors import HarnessError


class ReportError(HarnessError, ValueError):
    """A report cannot be made. The message is one sentence that names the mend."""
