"""Telling experiment trackers of a run while it goes on: a run there for each cell here."""
