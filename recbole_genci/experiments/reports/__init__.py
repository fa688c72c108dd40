"""One module for each kind of report, which computes, tabulates and draws the results of runs."""
