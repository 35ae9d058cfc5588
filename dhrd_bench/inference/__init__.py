"""Inference: classify from the pooled state, or generate and read the answer."""

from dhrd_bench.inference.answers import parse_answer
from dhrd_bench.inference.classification import classify
from dhrd_bench.inference.generation import generate

__all__ = ["classify", "generate", "parse_answer"]
