"""GenCI: Eq. 4 to 12 of the paper."""
