"""Names of columns that this package adds to rows and batches."""

# Columns of inter_feat that only datasets read. They are not registered as fields, because
# RecBole's context models would use them as features (abstract_recommender.py:227). Their names
# begin with a colon, which no field of an atomic file does.
ROW_NUMBER, TIME_RANK, HISTORY_START, HISTORY_END = (
    ":row_number",
    ":time_rank",
    ":history_start",
    ":history_end",
)
OWN_COLUMNS = (ROW_NUMBER, TIME_RANK, HISTORY_START, HISTORY_END)  # int32

# Columns that are added to a batch for models that read semantic IDs.
SEMANTIC_IDS, HISTORY_SEMANTIC_IDS, HISTORY_NUMBER = (
    "semantic_ids",
    "history_semantic_ids",
    "history_number",
)
