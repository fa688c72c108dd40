"""``report.html`` of an experiment: tables to sort, pairs, calibration, users, curves, cohorts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from recbole_genci.evaluation.calibration import DEFINITION as CALIBRATION
from recbole_genci.evaluation.volatility import DEFINITION as VOLATILITY
from recbole_genci.evaluation.volatility import FAST, SLOW, groups, user_volatility
from recbole_genci.experiments.auc_pairs import AUCDifference, pairwise_auc
from recbole_genci.experiments.outcome import Outcome, Report
from recbole_genci.experiments.significance import FEW_USERS, holm
from recbole_genci.tokenizer.source import item_texts
from recbole_genci.utils.words import counted
from recbole_genci.webpage.charts import DotPanel, Look, Trace, chart, dot_chart, looks_of
from recbole_genci.webpage.cohorts import cohort_browser
from recbole_genci.webpage.learning_curves import learning_curves
from recbole_genci.webpage.page import Section, absent, page, paragraph, text
from recbole_genci.webpage.table import matrix, sortable_table

_BINS = 10  # of a calibration curve
_NO_RUNS = "this experiment trains nothing."
_NONE_COMPLETE = "no line has finished with all its seeds."


def html_report(
    outcome: Outcome, made: Report, about: str, remarks: Sequence[str], origin: Sequence[str]
) -> str:
    """The page.

    Args:
        outcome: the runs.
        made: the tables of the experiment's report.
        about: a paragraph about the experiment and its runs.
        remarks: those below the table.
        origin: sentences about the rows, the code and the machines.
    """
    request = outcome.request
    definition = request.definition
    # Lines that are models are ranked; those of a sweep or an ablation have an order of their own.
    ranked = "AUC" if definition.open_models else None
    tables = [
        Section(
            f"table-{number}",
            "Results" if name == "table" else name.replace("_", " ").capitalize(),
            sortable_table(table.page_heads(), table.cells(), definition.against, ranked)
            if name == "table"
            else sortable_table(table.page_heads(), table.cells()),
        )
        for number, (name, table) in enumerate(made.tables.items())
    ]
    notes = "".join(f"<li>{_with_code(remark)}</li>" for remark in remarks)
    command = f"<p>Command:</p><pre>{text(request.command)}</pre>"
    sections = [
        *tables,
        Section("notes", "How to read them", f"<ul>{notes}</ul>"),
        _pairs(outcome),
        _calibration(outcome),
        *_user_groups(outcome),
        _learning_curves(outcome),
        _cohorts(outcome),
        Section("origin", "Origin", command + "".join(map(paragraph, origin))),
    ]
    title = f"{definition.name} on {request.config['dataset']}"
    return page(title, about, sections)


def _with_code(remark: str) -> str:
    """A remark as HTML; what is between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(remark))


def _missing(outcome: Outcome, least: int = 1) -> str | None:
    """Why nothing can be said about the test scores; None if it can."""
    if not outcome.request.variants:
        return _NO_RUNS
    if len(outcome.complete_variants()) < least:
        return _NONE_COMPLETE if least == 1 else "fewer than two lines have finished."
    if len(np.unique(outcome.test_labels)) < 2:
        return "all test rows are of one class."
    return None


def _pairs(outcome: Outcome) -> Section:
    """AUC of each line minus that of each other one, p-values corrected over all pairs."""
    name, title = "pairs", "All pairs of lines"
    if reason := _missing(outcome, least=2):
        return absent(name, title, reason)
    variants = outcome.complete_variants()
    found = pairwise_auc(
        outcome.test_users, outcome.test_labels, [outcome.scores(each) for each in variants]
    )
    pairs = [(i, j) for i in range(len(variants)) for j in range(i)]
    p_values = [each.p_value if (each := found[i][j]) else None for i, j in pairs]
    corrected = dict(zip(pairs, holm(p_values)))
    entries = [
        [_entry(found[i][j], corrected.get((max(i, j), min(i, j)))) for j in range(len(variants))]
        for i in range(len(variants))
    ]
    over = f"over all {len(pairs)} pairs" if len(pairs) > 1 else "(one pair needs none)"
    about = (
        "Each entry is the AUC of the row's line minus that of the column's line, in thousandths. "
        f"It is in colour if p is below 0.05 after Holm's correction {over}: "
        "blue where the row's line is better, orange where it is worse. p is that of a paired "
        "test over whole users (DeLong's standard error by user, Student's t). A table of "
        "differences has p from a bootstrap, and corrects it for fewer pairs."
    )
    users = len(np.unique(outcome.test_users))
    if not outcome.has_users:
        about += " Rows have no user here, so that each row counts as one."
    elif users < FEW_USERS:
        about += f" p is rough with only {users} users."
    names = [variant.name for variant in variants]
    return Section(name, title, paragraph(about) + matrix(names, entries))


def _entry(difference: AUCDifference | None, p_value: float | None) -> tuple[str, str, str]:
    if difference is None or p_value is None:
        return "", "", ""
    hover = (
        f"{difference.value:+.4f}, 95 % from {difference.low:+.4f} to {difference.high:+.4f}, "
        f"p {p_value:.3g} after Holm's correction"
    )
    better = "better" if difference.value > 0 else "worse"
    return f"{1000 * difference.value:+.1f}", hover, better if p_value < 0.05 else ""


def _calibration(outcome: Outcome) -> Section:
    """The share of clicks by predicted probability."""
    name, title = "calibration", "Calibration curves"
    if reason := _missing(outcome):
        return absent(name, title, reason)
    traces = []
    for variant in outcome.complete_variants():
        scores = outcome.scores(variant)
        labels = np.tile(outcome.test_labels, len(scores))
        predicted, observed = reliability(labels, scores.reshape(-1))
        traces.append(Trace(variant.name, predicted, observed))
    about = (
        f"Rows are sorted by predicted probability and cut into {_BINS} parts of equal size, all "
        "seeds together. Points above the dashed line have more clicks than predicted. "
        f"{CALIBRATION}"
    )
    body = chart(
        "chart-calibration",
        traces,
        "predicted probability",
        "share of clicks",
        diagonal=True,
        looks=_looks(outcome),
    )
    return Section(name, title, paragraph(about) + body, True)


def reliability(
    labels: np.ndarray, scores: np.ndarray, bins: int = _BINS
) -> tuple[list[float], list[float]]:
    """Mean predicted probability and share of clicks of parts of equal size, by probability."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [float(scores[p].mean()) for p in parts], [float(labels[p].mean()) for p in parts]


def _user_groups(outcome: Outcome) -> list[Section]:
    """AUC by the length of the history, and by how fast the user's interests change."""
    return [
        _by_group(
            outcome,
            "history",
            "Rows by length of the history",
            "AUC of the test rows whose history has so many clicks, mean over seeds.",
            _history_groups,
        ),
        _by_group(
            outcome,
            "volatility",
            "Users by change of interests",
            f"AUC of the test rows of each group of users, mean over seeds. {VOLATILITY}",
            _volatility_groups,
        ),
    ]


def _by_group(
    outcome: Outcome,
    name: str,
    title: str,
    about: str,
    groups_of: Callable[[Outcome], dict[str, np.ndarray]],
) -> Section:
    """AUC of each line, a panel for each group of rows."""
    if reason := _missing(outcome):
        return absent(name, title, reason)
    try:
        chosen = groups_of(outcome)
    except ValueError as error:  # the dataset has no field that the groups could come from
        return absent(name, title, str(error))
    labels = outcome.test_labels
    kept = {key: rows for key, rows in chosen.items() if 0 < labels[rows].sum() < rows.sum()}
    left_out = _left_out({key: rows for key, rows in chosen.items() if key not in kept}, labels)
    if not kept:
        return absent(name, title, f"no group has rows of both classes. {left_out}")
    several = len(outcome.request.seeds) > 1
    bars = "Bars are ± one standard deviation over the seeds." if several else ""
    variants = outcome.complete_variants()
    aucs = {each.name: _group_aucs(labels, outcome.scores(each), kept) for each in variants}
    panels = [
        DotPanel(
            f"{key} ({counted(int(rows.sum()), 'row')})",
            [float(aucs[each.name][place].mean()) for each in variants],
            [float(aucs[each.name][place].std(ddof=1)) for each in variants] if several else None,
        )
        for place, (key, rows) in enumerate(kept.items())
    ]
    whole = {
        each.name: np.mean([roc_auc_score(labels, one) for one in outcome.scores(each)])
        for each in variants
    }
    body = dot_chart(
        f"chart-{name}",
        list(aucs),
        panels,
        "test AUC",
        _looks(outcome),
        order=sorted(aucs, key=lambda line: -whole[line]),
    )
    words = f"{about} {bars} The best line over all test rows is at the top. {left_out}"
    return Section(name, title, paragraph(" ".join(words.split())) + body, True)


def _group_aucs(labels: np.ndarray, scores: np.ndarray, kept: dict) -> np.ndarray:
    """AUC ``[groups, seeds]``."""
    return np.array([[roc_auc_score(labels[r], one[r]) for one in scores] for r in kept.values()])


def _left_out(without: dict[str, np.ndarray], labels: np.ndarray) -> str:
    """A sentence about groups whose AUC is undefined; empty if there is none."""
    if not without:
        return ""
    parts = []
    for key, rows in without.items():
        number = int(rows.sum())
        kind = "clicked" if labels[rows].any() else "not clicked"
        parts.append(
            f"{key} ({counted(number, 'row')}, all {kind})" if number else f"{key} (empty)"
        )
    return f"Left out, as AUC needs rows of both classes: {', '.join(parts)}."


def _history_groups(outcome: Outcome) -> dict[str, np.ndarray]:
    """Test rows ``[R]`` by quarters of the lengths of their histories."""
    if not outcome.parts[2].has_histories:
        raise ValueError("rows have no histories, for want of a user, an item or a time.")
    length = outcome.parts[2].history_lengths
    ends = np.unique(np.quantile(length, [0.25, 0.5, 0.75, 1], method="higher"))
    least, found = int(length.min()), {}
    for end in ends.astype(int).tolist():
        name = counted(least, "click") if least == end else f"{least} to {end} clicks"
        found[name] = (length >= least) & (length <= end)
        least = end + 1
    return found


def _volatility_groups(outcome: Outcome) -> dict[str, np.ndarray]:
    of_rows = groups(user_volatility(outcome.parts), outcome.test_users)
    return {f"{name}-changing": of_rows == name for name in (FAST, SLOW)}


def _learning_curves(outcome: Outcome) -> Section:
    folders = {
        (variant.name, run["seed"]): outcome.store.run_folder(run)
        for variant in outcome.request.variants
        for run in outcome.of_variant(variant)
    }
    if not folders:
        return absent("learning-curves", "Learning curves", "no run has finished.")
    return learning_curves(folders, str(outcome.request.config["valid_metric"]), _looks(outcome))


def _cohorts(outcome: Outcome) -> Section:
    """The cohorts of the first line that reads semantic IDs."""
    for variant in outcome.request.variants:
        ids = outcome.semantic_ids.get(variant.name)
        if ids is not None:
            config = outcome.request.configs[variant.name]
            return cohort_browser(ids, item_texts(config, ids, outcome.parts[0].item_file))
    return absent("cohorts", "Cohorts", "no model of this experiment reads semantic IDs.")


def _looks(outcome: Outcome) -> dict[str, Look]:
    """One colour for each line, the same in all charts."""
    names = [variant.name for variant in outcome.request.variants]
    return looks_of(names, outcome.request.definition.against)
