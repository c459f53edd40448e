"""Merges: a pool becomes one static update per site, independent of the input."""
