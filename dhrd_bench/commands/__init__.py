"""The commands, one file each; `dhrd_bench.cli` only declares their options."""
