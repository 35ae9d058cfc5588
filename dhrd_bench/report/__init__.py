"""Leaderboards from a long table: analysis -> layout -> terminal, Markdown, HTML, LaTeX, CSV, JSON."""
