"""Tables of text."""

from recbole_genci.comparison.text_tables import aligned


def test_tables_line_up_on_a_console():
    text = aligned(
        "Test results:\n| model | AUC |\n| --- | --- |\n| DeepFM | 0.8 |\n| LR | – |\nthe end"
    )
    assert text.splitlines() == [
        "Test results:",
        "| model  | AUC |",
        "| ------ | --- |",
        "| DeepFM | 0.8 |",
        "| LR     |   – |",
        "the end",
    ]
