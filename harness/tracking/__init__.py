"""What a run tells an experiment tracker while it goes on: losses, finished cells, the comparison.

`Observer` is what the engine talks to and what keeps a tracker's failures from ending a run; a `Tracker` is one
backend behind it. A backend's package is imported only by a run that is tracked with it.
"""
