"""The estimate of the time left."""

from recbole_genci.experiments.progress import Timer


def test_each_run_is_guessed_by_its_line_then_its_model_then_all():
    timer = Timer()
    assert timer.left([("LR", "LR")]).seconds is None and "unknown" in str(
        timer.left([("LR", "LR")])
    )
    timer.add("LR", "LR", 10)
    timer.add("LR", "LR", 20)
    timer.add("full", "GenCI", 100)
    timer.add("w/o SR", "GenCI", 60)
    timer.add("w/o SR", "GenCI", None)  # resumed: known in part only
    assert timer.left([("LR", "LR")] * 2).seconds == 30
    assert timer.left([("full", "GenCI")]).seconds == 100
    variant = timer.left([("w/o NTP", "GenCI")])
    assert variant.seconds == 80
    other = timer.left([("DIN", "DIN"), ("LR", "LR")])
    assert other.seconds == 190 / 4 + 15 and str(other) == "about 62 s left"
    assert timer.left([]).seconds == 0
