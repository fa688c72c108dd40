"""Names of columns that this package adds to rows."""

# Columns of inter_feat that only datasets read. They are not registered as fields, because
# RecBole's context models would use them as features (abstract_recommender.py:227). Their names
# begin with a colon, which no field of an atomic file does.
ROW_NUMBER, TIME_RANK, HISTORY_START, HISTORY_END = (
    ":row_number",
    ":time_rank",
    ":history_start",
    ":history_end",
)
# The first of all clicks of a row's user; only a view of a model that reads segments has it.
HISTORY_FIRST = ":history_first"
OWN_COLUMNS = (ROW_NUMBER, TIME_RANK, HISTORY_START, HISTORY_END, HISTORY_FIRST)  # int32
