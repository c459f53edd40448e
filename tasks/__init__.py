"""Benchmarks: rows from a source, prompts and metrics from lm-evaluation-harness, disjoint parts."""
