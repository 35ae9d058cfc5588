"""Logs of other harnesses, which become records: models that have run elsewhere stand in the same tables."""
