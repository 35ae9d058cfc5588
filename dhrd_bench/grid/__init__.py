"""The grid: which cells a run consists of, and running those that are missing."""
