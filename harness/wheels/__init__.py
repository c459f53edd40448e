"""Models that come in wheels of the package index: which there are, how they are fetched and converted."""
