"""Renderers: a table as LaTeX, Markdown, CSV, or text for a terminal."""
