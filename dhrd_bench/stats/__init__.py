"""Paired inference on the long table: intervals, tests, power and ranks. Imports no torch."""
