"""Records of runs: the schema and the store that the engine writes and the reports read. Never imports torch."""
