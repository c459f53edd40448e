"""Templates of `harness new`."""
