"""Where rows come from: bundled assets, a directory, the hub, or one of these for each set."""

from tasks.sources.base import DatasetRef, Row, Source, SourceError
from tasks.sources.bundled import BundledSource
from tasks.sources.directory import DirectorySource
from tasks.sources.hub import HubSource
from tasks.sources.mixed import MixedSource, source_of

__all__ = [
    "BundledSource",
    "DatasetRef",
    "DirectorySource",
    "HubSource",
    "MixedSource",
    "Row",
    "Source",
    "SourceError",
    "source_of",
]
