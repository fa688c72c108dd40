"""Names of the columns that batches get beside RecBole's; ``ModelContract`` gives their shapes."""

SEMANTIC_IDS, HISTORY_SEMANTIC_IDS, HISTORY_NUMBER = (
    "semantic_ids",
    "history_semantic_ids",
    "history_number",
)
HISTORY_INDEX, HISTORY_SEGMENT, HISTORY_LENGTH, SEGMENTS, SEGMENT_LENGTH = (
    "history_index",
    "history_segment",
    "history_length",
    "segments",
    "segment_length",
)
BATCH_COLUMNS = (
    SEMANTIC_IDS,
    HISTORY_SEMANTIC_IDS,
    HISTORY_NUMBER,
    HISTORY_INDEX,
    HISTORY_SEGMENT,
    HISTORY_LENGTH,
    SEGMENTS,
    SEGMENT_LENGTH,
)
