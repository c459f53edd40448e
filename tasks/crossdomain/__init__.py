"""Questions that need two domains at once: sets made by a language model, and the tasks that evaluate on them.

The sets of the paper's Table 10 were not published, so `make_crossdomain` makes sets of the same kind.
"""

from __future__ import annotations

from tasks.crossdomain.making import GeneratorConfig, MadeSet, make_crossdomain
from tasks.crossdomain.prompt import kinds
from tasks.crossdomain.sources import WithMadeSets

__all__ = ["GeneratorConfig", "MadeSet", "WithMadeSets", "kinds", "make_crossdomain"]
