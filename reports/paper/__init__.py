"""The published figures of LoRA-Mixer (arXiv 2507.00029v2) as data."""
