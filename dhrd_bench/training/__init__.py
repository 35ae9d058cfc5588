"""Training: the one loop that every method goes through."""
