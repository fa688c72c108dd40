"""Stand-ins for analyses of `recbole_genci.evaluation` where they are not there; imported before `recbole_genci.experiments`."""

import importlib.util
import sys
import types

import numpy as np
from sklearn.metrics import roc_auc_score


def gauc(users, labels, scores):
    total, weight = 0.0, 0
    for user in np.unique(users):
        own = users == user
        if 0 < labels[own].mean() < 1:
            total, weight = total + own.sum() * roc_auc_score(labels[own], scores[own]), weight + own.sum()
    return total / weight if weight else float("nan")


def user_volatility(parts):
    users = np.unique(np.concatenate([part.inter_feat[part.uid_field].numpy() for part in parts]))
    return types.SimpleNamespace(users=users, volatility=users / users.max())


def groups(volatility, users_of_rows):
    place = np.searchsorted(volatility.users, users_of_rows)
    return np.where(volatility.volatility[place] > 0.5, "fast", "slow")


def intent_vectors(saved_run, rows, seed):
    number = min(rows, len(saved_run.parts[2]))
    drawn = np.random.default_rng(seed).normal(size=(3, number, 4))
    return dict(zip(("long-term intent", "short-term intent", "target item"), drawn))


def spread(vectors):
    return {name: {"mean distance": float(np.linalg.norm(each, axis=1).mean())} for name, each in vectors.items()}


def _stand_in(name, **content):
    name = f"recbole_genci.evaluation.{name}"
    if importlib.util.find_spec(name) is None:
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)


_stand_in("gauc", gauc=gauc)
_stand_in("volatility", user_volatility=user_volatility, groups=groups, DEFINITION="Half of the users are fast.")
_stand_in("intents", intent_vectors=intent_vectors, spread=spread, plot_intents=lambda vectors, file, seed: file.write_bytes(b""))
