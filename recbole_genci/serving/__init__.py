"""A finished run at work: loaded, scored, ranking."""
