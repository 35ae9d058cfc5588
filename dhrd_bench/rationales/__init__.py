"""Rationales: the store, the teachers that fill it, and the audit of what it holds."""
