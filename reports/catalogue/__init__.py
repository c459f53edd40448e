"""The tables and figures of LoRA-Mixer (arXiv 2507.00029v2), each as an entry that can be re-measured."""
