"""The generators of the suite: the harness loads this file; each generator has a file of its own."""

from . import dates, kinship, ordering, programs, quantifiers, roads, rules, swaps

__all__ = ["dates", "kinship", "ordering", "programs", "quantifiers", "roads", "rules", "swaps"]
