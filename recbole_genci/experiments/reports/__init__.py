"""One module for each kind of report: what is computed, tabled and drawn of its runs."""
