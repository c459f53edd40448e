"""Stages 1 and 2: encoded rows, the training loop, experts, and what methods are offered while they are fitted."""
