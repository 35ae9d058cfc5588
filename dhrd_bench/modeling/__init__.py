"""Between text and backbone: token sequences, their packs, heads, and what fitting leaves."""
