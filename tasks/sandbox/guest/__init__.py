"""What runs inside the sandboxes: needs the standard library only, and imports nothing of the harness.

Two interpreters start for every program that is judged, so little is imported: `typing` is what type checkers read, and
`dataclasses` would load the compiler's modules.
"""
