"""Damaged inputs by the thousand: nothing may be silently wrong, nothing raw. See ``harness``."""
