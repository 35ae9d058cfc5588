"""Inference: classify from the pooled state, score the answer words, or generate and read the answer."""
