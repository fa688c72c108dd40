from recbole_genci import compat

# Before any of them is imported alone, here or by a model of one's own.
with compat.anomaly_detection_as_it_was(), compat.without_syntax_warnings():
    import recbole.model.sequential_recommender  # noqa: F401
