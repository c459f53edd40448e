"""What runs inside the sandboxes: needs the standard library only, and imports nothing of the harness."""
