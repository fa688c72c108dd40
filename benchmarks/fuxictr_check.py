"""Our baselines beside FuxiCTR's on the same rows, with equal settings: is each what it should be?

    python benchmarks/fuxictr_check.py --fuxictr=<checkout of FuxiCTR> --dataset=ml-100k
        [--models=DeepFM,DCNV2,DIN,AFN] [--seeds=3] [--output=benchmarks/results/fuxictr]
        [--change=0] [--key=value ...]

Each model is trained by this package, and twice by FuxiCTR:

- *same start*: with the initial weights and the batches of ours. What differs then is the model,
  the loss, the optimiser, the evaluation or early stopping.
- *own start*: with FuxiCTR's initialisation and order of rows, which no setting reaches.

All compute in double precision: in single precision rounding errors grow in training until they
change AUC by 0.001 and choose another epoch. Those of AFN, whose logarithms are steep near 0, grow
as far in double precision: `--change=1e-15` changes the weights of the same start by this share and
shows how much that alone does. All read the rows of our data layer, written in
FuxiCTR's format; scikit-learn computes AUC and LogLoss of the test rows from the scores of each
side. *Scores apart* is the largest difference of a test row's probability when FuxiCTR's model has
the trained weights of ours.

Settings are those below, which FuxiCTR has too; a `--key=value` changes them on both sides, and
what FuxiCTR lacks is refused. FuxiCTR comes by `pip install fuxictr`; its models lie in its
repository alone, hence the checkout. docs/results.md says which forms are equal.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fuxictr_models import PLACES, copy_weights, model_class, settings
from fuxictr_rows import write_rows
from recbole.utils import init_seed
from sklearn.metrics import log_loss, roc_auc_score

from recbole_genci.comparison.text_tables import markdown_table
from recbole_genci.config import known_keys, parse_argv
from recbole_genci.config.command_line import key_value_words
from recbole_genci.data import create_loaders
from recbole_genci.data.loaders import PARTS
from recbole_genci.experiments.request import parse_seeds
from recbole_genci.plan import prepare
from recbole_genci.serving.saved_run import load
from recbole_genci.training.run import train_and_evaluate
from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.writing import write_text

_logger = logging.getLogger(__name__)
#: What both sides have. Dropout stands before each layer in RecBole, behind it in FuxiCTR.
EQUAL = {
    "recipe": "paper",
    "dropout_prob": 0.0,
    "structure": "parallel",
    "attention_mlp_hidden_size": [64],
    "interest_product": False,
    "latency_repeats": 1,
    "diagnostic_rows": 0,
    "gpu_id": "",
}
_OWN = ("fuxictr", "models", "dataset", "seeds", "output", "change", "config_files")
OURS, SAME, OTHER = "ours", "same start", "own start"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """FuxiCTR writes a line about each step to the root logger."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class Counterpart:
    """FuxiCTR's side of one model: its rows, and models with our settings.

    Args:
        folder: where rows and checkpoints are written.

    Attributes:
        change: the share by which the weights of a same start are changed.
    """

    change = 0.0

    def __init__(self, name: str, class_: type, config: Any, parts: Sequence, folder: Path) -> None:
        from fuxictr.features import FeatureMap

        self.name, self.class_, self.config = name, class_, config
        self.rows = folder / name
        init_seed(config["seed"], config["reproducibility"])
        ours = config.model_class(config, parts[0])
        write_rows(self.rows, ours, parts)
        self.features = FeatureMap(self.rows.name, str(self.rows))
        with _silence():
            self.features.load(
                str(self.rows / "feature_map.json"), {"embedding_dim": config["embedding_size"]}
            )
        self.settings = settings(name, config, ours, len(parts[0]), folder / "checkpoints")
        copy_weights(name, ours, self.model())  # refuses models of two forms before any training

    def model(self) -> Any:
        """A new model with FuxiCTR's own initialisation."""
        return self.class_(self.features, **self.settings)

    def loaders(self, batch_size: int, generator: torch.Generator | None) -> list[Any]:
        """FuxiCTR's loaders of the three parts; ``generator`` draws the batches of training."""
        from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader

        found = []
        for part in PARTS:
            is_trained = part == "train"
            found.append(
                NpzDataLoader(
                    self.features,
                    str(self.rows / f"{part}.npz"),
                    batch_size=batch_size if is_trained else self.config["eval_batch_size"],
                    shuffle=is_trained,
                    num_workers=0,
                )
            )
        if generator is not None:
            found[0].generator = found[0].sampler.generator = generator
        return found

    def trained(self, batch_size: int, ours: Any = None) -> np.ndarray:
        """Train; return the probabilities of the test rows by the best epoch.

        Args:
            ours: our model at its start, if this one shall start and shuffle alike.
        """
        from fuxictr.pytorch.torch_utils import seed_everything

        seed_everything(self.config["seed"])
        model, generator = self.model(), None
        labels = model.get_labels
        model.get_labels = lambda batch: labels(batch).double()
        if ours is not None:
            copy_weights(self.name, ours, model)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(1 + self.change)
            generator = torch.Generator()
            generator.manual_seed(self.config["seed"])  # as RecBole's loader
        train, valid, test = self.loaders(batch_size, generator)
        Path(model.model_dir).mkdir(parents=True, exist_ok=True)
        clip = (self.config["clip_grad_norm"] or {}).get("max_norm", float("inf"))
        _logger.info(f"FuxiCTR's {self.name}, {OTHER if ours is None else SAME}")
        with _silence():
            model.fit(
                train, epochs=self.config["epochs"], validation_data=valid, max_gradient_norm=clip
            )
        return model.predict(test)

    def scored(self, ours: Any, batch_size: int) -> np.ndarray:
        """The probabilities of the test rows by the weights of our model."""
        model = self.model()
        copy_weights(self.name, ours, model)
        return model.predict(self.loaders(batch_size, None)[2])


def compared(
    name: str, class_: type, config: Any, parts: Sequence, folder: Path, change: float = 0.0
) -> dict:
    """One model and seed, trained three times: a line of the results."""
    train, valid, test = create_loaders(config, parts)
    views = [train.dataset, valid.dataset, test.dataset]
    counterpart = Counterpart(name, class_, config, views, folder)
    counterpart.change = change
    run = folder / f"{name}-ours"
    run.mkdir()
    metrics = train_and_evaluate(config, parts, folder=run)
    saved = load(run)
    scores, labels = (each.double().numpy() for each in saved.predict())
    init_seed(config["seed"], config["reproducibility"])
    start = config.model_class(config, train.dataset)
    line = {"model": name, "seed": config["seed"], "epochs": metrics["epochs"]}
    for kind, its in {
        OURS: scores,
        SAME: counterpart.trained(train.step, start),
        OTHER: counterpart.trained(train.step),
    }.items():
        line |= {
            f"AUC {kind}": roc_auc_score(labels, its),
            f"LogLoss {kind}": log_loss(labels, its),
        }
    apart = np.abs(counterpart.scored(saved.model, train.step) - scores).max()
    return line | {"scores apart": float(apart)}


def table(lines: Sequence[dict]) -> str:
    """A line a model: means over the seeds, and paired differences ± their standard deviation."""
    rows = []
    for name, own in pd.DataFrame(lines).groupby("model", sort=False):
        cells = [str(name), str(len(own))]
        for metric in ("AUC", "LogLoss"):
            ours = own[f"{metric} {OURS}"]
            cells.append(_spread(ours))
            for kind in (SAME, OTHER):
                cells.append(_spread(own[f"{metric} {kind}"] - ours, sign="+"))
        rows.append([*cells, f"{own['scores apart'].max():.0e}"])
    heads = ["model", "seeds"]
    for metric in ("AUC", "LogLoss"):
        heads += [metric, f"FuxiCTR - ours, {SAME}", OTHER]
    return markdown_table([*heads, "scores apart"], rows)


def _spread(values: pd.Series, sign: str = "") -> str:
    spread = f" ± {values.std():.4f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.4f}{spread}"


@answering
def main(argv: Sequence[str]) -> Work:
    """Check the command, and return the work: to train both sides and write the table."""
    argv = key_value_words(list(argv))
    words = parse_argv(argv)
    for name, example in {"dataset": "ml-100k", "fuxictr": "<checkout of FuxiCTR>"}.items():
        if not words.get(name):
            raise ValueError(f"command line: --{name} is missing, for example --{name}={example}.")
    names = [name.strip() for name in str(words.get("models", ",".join(PLACES))).split(",")]
    seeds = parse_seeds(words.get("seeds")) or 3
    try:
        change = float(str(words.get("change", 0)))
        if not math.isfinite(change):
            raise ValueError
    except ValueError:
        raise ValueError(f"change: '{words['change']}' is no number, such as 1e-15.") from None
    if len(set(names)) < len(names):
        raise ValueError(f"models: '{words['models']}' names a model twice.")
    output = Path(str(words.get("output", "benchmarks/results/fuxictr")))
    check_writable(output, "output")
    checkout = Path(str(words["fuxictr"]))
    classes = {name: model_class(checkout, name) for name in names}
    dataset = str(words["dataset"])
    known = known_keys(names, dataset)
    files = str(words["config_files"]).split() if words.get("config_files") else None
    keys = [word for word in argv if word[2:].partition("=")[0] not in _OWN]
    equal = {key: value for key, value in EQUAL.items() if key in known}
    plan = prepare(names, dataset, files, equal, keys)
    for name, config in plan.configs.items():
        part = create_loaders(config, plan.parts)[0].dataset
        settings(name, config, config.model_class(config, part), len(part), Path())

    def work() -> int:
        lines: list[dict] = []
        with _double_precision(plan.parts):
            for number in range(seeds):  # all models with one seed, then with the next
                for name, config in plan.configs.items():
                    config["seed"] += number > 0
                    with tempfile.TemporaryDirectory(prefix="fuxictr-") as folder:
                        line = compared(
                            name, classes[name], config, plan.parts, Path(folder), change
                        )
                    lines.append(line)
                    print(table(lines), flush=True)
                    _save(output, lines)
        return 0

    return work


@contextlib.contextmanager
def _double_precision(parts: Sequence) -> Iterator[None]:
    """Weights are of double precision inside the block, and so are the labels of the parts."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    for part in parts:
        part.inter_feat[part.label_field] = part.inter_feat[part.label_field].double()
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _save(folder: Path, lines: Sequence[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = pd.DataFrame(lines).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_text(folder / "runs.csv", text)
    write_text(folder / "table.md", table(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
