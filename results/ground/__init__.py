"""The ground that methods, tasks, reports and the engine stand on: errors, names, digests, files, cards.

It imports nothing of the other packages and nothing heavy, so everything may import it.
"""
