"""Inference: classify from the pooled state, or generate and read the answer."""

from dhrd_bench.inference.answers import parse_answer
from dhrd_bench.inference.classify import classify
from dhrd_bench.inference.generate import generate

__all__ = ["classify", "generate", "parse_answer"]
