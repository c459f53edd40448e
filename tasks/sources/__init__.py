"""Where rows come from: bundled assets, a directory, the hub."""

from tasks.sources.base import DatasetRef, Row, Source, SourceError
from tasks.sources.bundled import BundledSource
from tasks.sources.directory import DirectorySource
from tasks.sources.hub import HubSource

__all__ = ["BundledSource", "DatasetRef", "DirectorySource", "HubSource", "Row", "Source", "SourceError"]
