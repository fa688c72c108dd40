"""Turn vectors into codes."""
