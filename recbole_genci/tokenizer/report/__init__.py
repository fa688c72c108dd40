"""Reports on semantic IDs for people."""
