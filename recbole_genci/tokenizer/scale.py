"""From which size on a catalogue is built by the algorithms for large catalogues."""

#: Larger catalogues learn terms, directions and codes from a sample, in memory that hardly grows.
#: Smaller ones are built as ever, so that their IDs stay the same to the last bit.
LARGE_CATALOGUE = 1 << 15
#: Texts or vectors in a sample: 256 for each of 256 codes.
SAMPLE = 1 << 16


def build_version(items: int) -> int:
    """The version of the algorithms that build a catalogue of this many items.

    Raise it when the same settings give other codes. Old cache folders are then no longer used.
    """
    return 2 if items > LARGE_CATALOGUE else 1
