"""Evaluation of a loaded model: lm-eval's interface and numbers, with shared prefixes."""
