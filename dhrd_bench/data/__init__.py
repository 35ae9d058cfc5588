"""Suites: where their rows come from, how they are asked, split and scored.

Nothing heavy is imported here; `datasets` and `evaluate` are, by the functions that need them.
"""
