"""Whether what the generator knows of the next click tells more about a row's label than another
model knows already.

    python benchmarks/generator_probe.py <run of GenCI> <run of another model, of the same rows>

The generator's log-probability of a row's own item (Eq. 6, level by level, from the user's earlier
clicks) is scored as it is, and beside the other model's logit, by a logistic regression that is
fitted on the validation rows. So is the number of clicks that the item has in training.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from recbole_genci import load
from recbole_genci.data.loaders import PARTS
from recbole_genci.evaluation.calibration import logits_of
from recbole_genci.experiments.significance import UserBootstrap
from recbole_genci.model.genci.fusion import candidate_log_probs
from recbole_genci.serving.saved_run import SavedRun


class Rows(NamedTuple):
    """What is known of R rows."""

    labels: np.ndarray  # [R]
    users: np.ndarray  # [R]
    columns: dict[str, np.ndarray]  # [R, any] each


def item_log_probs(run: SavedRun, part: str) -> np.ndarray:
    """Log-probabilities ``[R, N]`` of the codes of a part's items, plus the logarithms of the
    numbers of codes.

    Raises:
        ValueError: a run without a generator, or whose generator did not learn the next item.
    """
    model = run.model
    if not getattr(model, "mu", 0):
        raise ValueError(f"{run.folder} has no generator of next items; give GenCI's, with mu > 0.")
    found = []
    with torch.inference_mode():
        for batch, *_ in run.loader(part):
            batch = batch.to(run.config["device"])
            encoded, history = model.encode_histories(batch)
            codes = model.codes[batch[model.item_field]]
            found.append(candidate_log_probs(model.intent, encoded, history, codes, joint=False))
    return torch.cat(found).cpu().numpy()


def rows(run: SavedRun, other: SavedRun, part: str) -> Rows:
    """The columns that the regressions read, of a part's rows.

    Raises:
        ValueError: runs of different rows.
    """
    if run.metrics["data_fingerprint"] != other.metrics["data_fingerprint"]:
        raise ValueError(
            f"{run.folder} and {other.folder} have different rows; give runs of the same."
        )
    config, table = run.config, run.parts[PARTS.index(part)].inter_feat
    trained = run.parts[0].inter_feat
    label, item = config["LABEL_FIELD"], config["ITEM_ID_FIELD"]
    clicked = trained[item].numpy()[trained[label].numpy() > 0]
    clicks = np.bincount(clicked, minlength=int(table[item].max()) + 1)[table[item].numpy()]
    columns = {
        "model": logits_of(other.predict(part)[0].numpy())[:, None],
        "generator": item_log_probs(run, part),
        "clicks": np.log1p(clicks)[:, None],
    }
    return Rows(table[label].numpy(), table[config["USER_ID_FIELD"]].numpy(), columns)


def regression(valid: Rows, test: Rows, names: list[str]) -> np.ndarray:
    """Logits ``[R]`` of the test rows, by a logistic regression fitted on the validation rows."""
    known, new = (np.hstack([part.columns[name] for name in names]) for part in (valid, test))
    scaler = StandardScaler().fit(known)
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(scaler.transform(known), valid.labels)
    return fitted.decision_function(scaler.transform(new))


def main(genci: str, another: str) -> None:
    """Print a Markdown table of test AUCs, and their differences to the other model's."""
    run, other = load(genci), load(another)
    valid, test = (rows(run, other, part) for part in ("valid", "test"))
    alone = regression(valid, test, ["model"])
    scores = {
        "the generator alone": test.columns["generator"].sum(1),
        "the item's clicks alone": test.columns["clicks"][:, 0],
        "the model": alone,
        "the model and the clicks": regression(valid, test, ["model", "clicks"]),
        "the model and the generator": regression(valid, test, ["model", "generator"]),
        "all three": regression(valid, test, ["model", "clicks", "generator"]),
    }
    print(f"| {len(test.labels):,} test rows | AUC | minus the model's (95 % over users) |")
    print("| --- | --- | --- |")
    for line, score in scores.items():
        shown = ""
        if score is not alone:
            bootstrap = UserBootstrap(test.users, test.labels, expit(score)[None])
            found = bootstrap.differences(expit(alone)[None])["auc"]
            shown = f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        print(f"| {line} | {roc_auc_score(test.labels, score):.4f} | {shown} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
