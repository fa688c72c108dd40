"""One run: its training, its folder, its processes."""
