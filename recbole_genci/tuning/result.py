"""The files of a search: table, result, the selected values as a configuration, and a picture."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml

from recbole_genci.utils.figures import INSTALL, can_draw, row_of_axes, save
from recbole_genci.utils.writing import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_logger = logging.getLogger(__name__)

TABLE, RESULT, SELECTED, PLOT = (
    "hyper_result.csv",
    "hyper_result.json",
    "selected.yaml",
    "hyper_result.png",
)
_FEW = 6  # up to so many values of a key are evenly spaced in the picture


def trial_table(records: list[dict]) -> pd.DataFrame:
    """One line per trial in the order of numbers: status, validation score, values, all validation
    metrics, epochs, seconds, error and folder.
    """
    lines = []
    for record in records:
        values = {
            name: json.dumps(v) if isinstance(v, (list, dict)) else v
            for name, v in record["params"].items()
        }
        valid = {f"valid {name}": value for name, value in (record["valid"] or {}).items()}
        rest = {
            "best epoch": record["best_epoch"],
            "epochs trained": record["epochs"],
            "training [s]": record["training_s"],
            "error": record["error"],
            "folder": record["folder"],
        }
        lines.append(
            {
                "trial": record["trial"],
                "status": record["status"],
                "score": record["score"],
                **values,
                **valid,
                **rest,
            }
        )
    columns = list(
        dict.fromkeys(name for line in lines for name in line if name not in ("error", "folder"))
    )
    return pd.DataFrame(lines, columns=[*columns, "error", "folder"]).astype(
        {"best epoch": "Int64", "epochs trained": "Int64"}
    )


def write_table(records: list[dict], folder: Path) -> None:
    """Write the table as CSV atomically."""
    write_text(folder / TABLE, trial_table(records).to_csv(index=False))


def write_result(result: dict, folder: Path) -> None:
    """Write ``hyper_result.json``, and ``selected.yaml`` for ``--config_files``."""
    write_json(folder / RESULT, result)
    selected = result["selected"]
    header = (
        f"# {result['model']} on {result['dataset']}: trial {selected['trial']} of "
        f"{len(result['trials'])}, selected by validation {result['valid_metric']} "
        f"{selected['score']:.6f}\n"
    )
    write_text(folder / SELECTED, header + yaml.safe_dump(selected["params"], sort_keys=False))


def plot_search(records: list[dict], metric: str, bigger: bool, file: Path) -> None:
    """Draw validation scores by trial, with the best so far, and by the values of each searched
    key. A hollow marker is a trial that was stopped early.
    """
    scored = [record for record in records if record["score"] is not None]
    finished = [record for record in scored if record["status"] == "finished"]
    names = list(finished[0]["params"])
    figure, (first, *others) = row_of_axes(len(names) + 1, 3.2 * (len(names) + 1), 3, sharey=True)
    best = (np.maximum if bigger else np.minimum).accumulate(
        [record["score"] for record in finished]
    )
    first.step(
        [record["trial"] for record in finished],
        best,
        where="post",
        color="black",
        linewidth=0.8,
        label="best so far",
    )
    _points(first, scored, [record["trial"] for record in scored])
    first.xaxis.get_major_locator().set_params(integer=True)
    first.set(xlabel="trial", ylabel=f"validation {metric}")
    first.legend(fontsize="small")
    for axis, name in zip(others, names):
        values = [record["params"][name] for record in scored]
        numeric = all(
            isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
        )
        distinct = sorted(set(values)) if numeric else list(dict.fromkeys(map(str, values)))
        # Values of a choice are evenly spaced, so that their labels do not overlap.
        if not numeric or len(distinct) <= _FEW:
            places = {value: place for place, value in enumerate(distinct)}
            labels = [f"{value:g}" for value in distinct] if numeric else distinct
            axis.set_xticks(range(len(distinct)), labels, rotation=30, ha="right")
            values = [places[value if numeric else str(value)] for value in values]
        elif min(values) > 0 and max(values) / min(values) > 20:
            axis.set_xscale("log")
        _points(axis, scored, values)
        axis.set(xlabel=name)
    save(figure, file, dpi=120)


def _points(axis: Axes, records: list[dict], places: list[float]) -> None:
    """Draw the records' scores at their places: finished trials filled, others hollow."""
    for done, label in ((True, "finished"), (False, "stopped early")):
        chosen = [
            (x, r["score"]) for x, r in zip(places, records) if (r["status"] == "finished") == done
        ]
        if chosen:
            across, up = zip(*chosen)
            axis.scatter(
                across,
                up,
                s=16,
                color="#0072B2",
                facecolors="#0072B2" if done else "none",
                label=label,
                zorder=3,
            )


def write_plot(records: list[dict], metric: str, bigger: bool, folder: Path) -> None:
    """Write the picture, or warn that matplotlib is missing."""
    if not can_draw():
        _logger.warning(f"No plot: matplotlib is not installed. `{INSTALL}` brings it.")
        return
    plot_search(records, metric, bigger, folder / PLOT)
