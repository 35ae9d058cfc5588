"""The leaderboard as a site to look around in: a folder that opens from disk, or served while a grid runs."""
