"""Training: how rows become sequences, and the one loop that every method goes through."""

from dhrd_bench.training.encode import Encoder, Row
from dhrd_bench.training.fitted import Fitted
from dhrd_bench.training.loop import fine_tune

__all__ = ["Encoder", "Fitted", "Row", "fine_tune"]
