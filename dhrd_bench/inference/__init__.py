"""Inference: classify from the pooled state, score the answer words, or generate and read the answer."""

from dhrd_bench.inference.answers import parse_answer, parse_free_answer
from dhrd_bench.inference.classification import classify
from dhrd_bench.inference.generation import chat_turn, generate
from dhrd_bench.inference.score import score_labels

__all__ = ["chat_turn", "classify", "generate", "parse_answer", "parse_free_answer", "score_labels"]
