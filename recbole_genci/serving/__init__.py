"""Load a finished run, score rows with it, and recommend items."""
