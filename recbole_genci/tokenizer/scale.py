"""From which size on a catalogue is built by the algorithms for large catalogues."""

#: Larger catalogues learn terms, directions and codes from a sample, in memory that hardly grows,
#: and by distances from matrix products. Smaller ones are built as ever, so that their IDs stay the
#: same to the last bit.
LARGE_CATALOGUE = 1 << 13
#: Texts or vectors in a sample: 256 for each of 256 codes.
SAMPLE = 1 << 16


def build_version(items: int) -> int:
    """The version of the algorithms that build a catalogue of this many items.

    Raise it when the same settings give other codes. Old cache folders are then no longer used.
    Version 2 took the exact distances in the RQ-VAE's training, and began above 32,768 items.
    Version 3 left a centre where it was if a balanced assignment gave it no row.
    """
    return 4 if is_large(items) else 1


def is_large(items: int) -> bool:
    """Whether the algorithms for large catalogues build this many items."""
    return items > LARGE_CATALOGUE
