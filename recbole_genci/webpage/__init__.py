"""``report.html``: one page, in one file, that shows a comparison or an experiment in a browser."""
