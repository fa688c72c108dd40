"""The comparison of finished runs: its table, the notes beside it, its page and its files."""
