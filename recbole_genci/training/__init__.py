"""Train and evaluate one model: the run, its folder, its processes."""
