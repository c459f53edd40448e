"""Publishing a run: its records and items as a data set, and a composed model with its card.

A publication is a folder first (`stage`), without anything that belongs to the machine it was made on, and only then
pushed (`push`): `--dry-run` stops between the two.
"""
