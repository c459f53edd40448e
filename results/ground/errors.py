"""Mistakes that the user can mend."""

from __future__ import annotations


class HarnessError(Exception):
    """A mistake that is the user's. Its message is one sentence that names the mend.

    Every error of this kind, in whatever package, derives from this class. The command line alone catches it, prints
    the sentence and ends with exit code 2; nothing in between translates one into another.
    """


class NotFinite(HarnessError):
    """A loss, gradient, weight or likelihood that is infinite or not a number: nothing that follows from it is one."""
