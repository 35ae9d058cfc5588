"""Throughput that can be quoted: fitted methods timed against each other, on the device by themselves."""
