"""The tables and figures of LoRA-Mixer (arXiv 2507.00029v2), each as an entry that can be re-measured."""

from reports.catalogue.build import build
from reports.catalogue.entries import (
    UnknownEntryError,
    ablations,
    availability,
    entries,
    entry,
    listing,
    paper,
)
from reports.catalogue.figures import companion
from reports.catalogue.model import Availability, Context, Entry, Need
from reports.catalogue.select import as_planned, select

__all__ = [
    "Availability",
    "Context",
    "Entry",
    "Need",
    "UnknownEntryError",
    "ablations",
    "as_planned",
    "availability",
    "build",
    "companion",
    "entries",
    "entry",
    "listing",
    "paper",
    "select",
]
