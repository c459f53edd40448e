"""Records of runs: the schema and the store that engine and reports share. Never imports torch."""
