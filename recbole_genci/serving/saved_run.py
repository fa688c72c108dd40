"""Load a finished run from its folder: model, rows and metrics. Nothing is unpickled or rebuilt."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from recbole_genci.config import Config
from recbole_genci.config.added_keys import keys_before
from recbole_genci.config.config import TRUST
from recbole_genci.data.column_names import TIME_RANK
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.fingerprint import data_fingerprint, rows_fingerprint
from recbole_genci.data.loaders import PARTS, create_loader, model_view
from recbole_genci.data.storage import load_parts
from recbole_genci.evaluation.recall import recall
from recbole_genci.evaluation.scoring import metrics_of, score_rows, users_of
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.artifact.files import read_tokenizer
from recbole_genci.tokenizer.artifact.frozen import Artifact, read_frozen
from recbole_genci.tokenizer.artifact.published import PUBLISHED
from recbole_genci.training.checkpoint import why_not_finished
from recbole_genci.training.saved_files import (
    COPY_OR_ANEW,
    check_config,
    check_files,
    check_there,
    read_metrics,
)
from recbole_genci.utils.hub.name import is_hub_name
from recbole_genci.utils.hub.snapshot import local_folder
from recbole_genci.utils.layout import (
    CONFIG_FILE,
    DATA_FILE,
    METRICS_FILE,
    SEMANTIC_ID_FOLDER,
    WEIGHTS_FILE,
)
from recbole_genci.utils.mappings import read_mapping
from recbole_genci.utils.own_code import permitted_model, source_digest
from recbole_genci.utils.run_folders import no_folder_of
from recbole_genci.utils.weights import load_weights

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedRun:
    """A finished run, as ``load`` returns it.

    Attributes:
        config: the run's configuration.
        model: the model with the weights of its best validation epoch, in evaluation mode.
        parts: training, validation and test rows, with vocabularies and features.
        metrics: the content of ``metrics.json``.
        semantic_ids: those of the items; None if the model reads none.
        folder: the run's folder.
        artifact: semantic IDs with their tokenizer and texts, if items were added
            (``Ranker.with_items``); else the folder holds them.
        has_new_items: whether items were added.
    """

    config: Config
    model: AbstractRecommender
    parts: list
    metrics: dict
    semantic_ids: SemanticIDs | None
    folder: Path | None = None
    artifact: Artifact | None = None
    has_new_items: bool = False

    def __repr__(self) -> str:
        return f"SavedRun({self.in_words()})"

    def in_words(self) -> str:
        """Which run it is, and its test metrics."""
        test = ", ".join(f"{name} {value}" for name, value in self.metrics["test"].items())
        return (
            f"{self.metrics['model']} on {self.metrics['dataset']}, seed {self.metrics['seed']}: "
            f"test {test}"
        )

    def loader(self, part: str = "test") -> AbstractDataLoader:
        """RecBole's loader over the ``train``, ``valid`` or ``test`` rows, in their order."""
        if part not in PARTS:
            raise ValueError(f"part: '{part}' is not one of {', '.join(PARTS)}.")
        return create_loader(self.config, self.parts[PARTS.index(part)], self.semantic_ids, "test")

    def predict(self, part: str = "test") -> tuple[torch.Tensor, torch.Tensor]:
        """Click probabilities ``[R]`` and labels ``[R]`` of a part's rows."""
        return score_rows(self.model, self.loader(part), self.config["device"])

    def predictions(self, part: str = "test") -> pd.DataFrame:
        """A part's rows with their click probabilities.

        Returns:
            DataFrame: ``user``, ``item``, ``time`` (float64, exact), as far as the rows have them,
                ``label`` and ``score``, in the order of ``predict``.
        """
        scores, labels = self.predict(part)
        rows = self.parts[PARTS.index(part)]
        columns: dict[str, np.ndarray | None] = {}
        for noun, field in rows.id_fields.items():
            columns[noun] = rows.field2id_token[field][rows.inter_feat[field].numpy()]
        if rows.rank_times is not None:
            columns["time"] = rows.rank_times[rows.inter_feat[TIME_RANK].numpy()]
        elif rows.time_field is not None:
            is_there = rows.time_field in rows.inter_feat
            columns["time"] = rows.inter_feat[rows.time_field].numpy() if is_there else None
        columns |= {"label": labels.numpy().astype(int), "score": scores.numpy()}
        return pd.DataFrame(columns)

    def item_texts(self) -> dict[str, str]:
        """The text of each item, from which its semantic ID was made; empty if the run has none.

        Semantic IDs without texts, such as those that come with the package, have the texts of the
        dataset that the run was trained on. Models without semantic IDs have none.
        """
        if self.artifact is not None:
            return dict(zip(self.artifact.ids.item_tokens, self.artifact.texts))
        if self.semantic_ids is None or self.folder is None:
            return {}
        folder = self.folder / SEMANTIC_ID_FOLDER
        _, texts = read_tokenizer(folder, self.semantic_ids.digest)
        return dict(zip(self.semantic_ids.item_tokens, texts or ()))

    def tokenizer(self) -> Artifact:
        """The semantic IDs with their frozen tokenizer, which gives codes to new items.

        Raises:
            ValueError: the model reads no semantic IDs, or the folder does not hold the tokenizer.
        """
        if self.artifact is not None:
            return self.artifact
        if self.semantic_ids is None:
            raise ValueError(f"{self.config['model']} reads no semantic IDs.")
        try:
            assert self.folder is not None
            return read_frozen(self.folder / SEMANTIC_ID_FOLDER)
        except FileNotFoundError as error:
            came = (
                "They came with recbole_genci, without their tokenizer"
                if PUBLISHED in self.semantic_ids.manifest
                else "A push to the hub left tokenizer or texts out"
            )
            raise ValueError(
                f"{self.folder} holds semantic IDs, but not what gives new items theirs. {came}: "
                "train a run with IDs of its own, for example --text_encoder=lsa."
            ) from error

    def evaluate(self, part: str = "test") -> dict[str, float]:
        """The configuration's metrics over a part: for ``test``, those of ``metrics.json``."""
        return metrics_of(self.config, *self.predict(part), users_of(self.loader(part)))

    def recall(
        self,
        part: str = "test",
        k: Sequence[int] = (10, 20),
        num_beams: int | None = None,
        exclude_history: bool = False,
    ) -> dict[str, dict[str, float]]:
        """Recall@K and NDCG@K of the items that GenCI generates for a part's clicked rows.

        The most popular items are measured beside them. Arguments and errors are those of
        ``recbole_genci.evaluation.recall.recall``.
        """
        training_rows = model_view(self.config, self.parts[0], self.semantic_ids)
        return recall(
            self.model,
            self.loader(part),
            training_rows,
            self.config["device"],
            k,
            num_beams,
            exclude_history,
        )


def load(folder: str | Path, model: str | type | None = None, trust_code: bool = False) -> SavedRun:
    """Load the folder of a finished run, ``saved/<model>-<dataset>-<time>``. It may have moved.

    Args:
        folder: the run's folder; or ``hf:user/name[@revision][/subfolder]``, one that
            ``python -m recbole_genci.hub push`` has uploaded to the Hugging Face hub.
        model: for a run of a model of your own, the class, or its reference ``module:Class`` or
            ``path/to/file.py:Class``.
        trust_code: whether to import the models and metrics that the folder names and that belong
            neither to RecBole nor to this plugin. This runs their code, so set it only for folders
            and modules that you trust.

    Raises:
        FileNotFoundError: the folder or a file in it does not exist, or its run has not finished.
        HubError: the hub does not give the folder.
        ValueError: a file is damaged, files belong to different runs, the model has changed since,
            or the folder names code that was neither given nor allowed.
    """
    folder = _folder_of(folder)
    metrics = read_metrics(folder / METRICS_FILE, COPY_OR_ANEW)
    saved = read_mapping(folder / CONFIG_FILE, ["model", "dataset"], COPY_OR_ANEW)
    ids = [SEMANTIC_ID_FOLDER] if metrics["semantic_ids"] else []
    check_there(folder, [DATA_FILE, WEIGHTS_FILE, *ids])
    reference = permitted_model(saved, folder, model, trust_code)
    check_config(folder / CONFIG_FILE, saved, metrics["config"])
    check_files(folder, metrics, COPY_OR_ANEW)
    config = _config(folder, saved, reference)
    _check_model_is_the_same(folder, config, reference, metrics)
    parts = _rows(folder, config, metrics)
    semantic_ids = _semantic_ids(folder, metrics)
    loaded = _model(folder, config, parts, semantic_ids, metrics)
    return SavedRun(config, loaded, parts, metrics, semantic_ids, folder)


def _folder_of(given: str | Path) -> Path:
    """The folder of a finished run on this machine."""
    folder = local_folder(given)
    if is_hub_name(given):
        _check_pushed(str(given), folder)
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(no_folder_of("run", folder, CONFIG_FILE))
    if not (folder / METRICS_FILE).is_file():
        raise FileNotFoundError(why_not_finished(folder))
    return folder


def _check_pushed(name: str, folder: Path) -> None:
    """Refuse what was pushed to the hub but is no run, or one without its rows."""
    if not (folder / METRICS_FILE).is_file():
        raise FileNotFoundError(f"{name} is not the folder of a run: it has no {METRICS_FILE}.")
    if not (folder / DATA_FILE).is_file():
        raise FileNotFoundError(
            f"{name} was pushed without its rows, and a model needs their vocabularies. `python -m "
            f"recbole_genci.hub pull {name} <folder>` makes them again from the dataset's files; "
            "then give that folder."
        )


def _config(folder: Path, saved: dict, reference: str) -> Config:
    """The run's configuration, for one process that serves it."""
    # One process serves a run, however many have trained it. Requests have many shapes, and CUDA
    # graphs would pad each to 128 histories.
    one_process = {"nproc": 1, "world_size": -1, "offset": 0, "port": None}
    served = one_process | {"cuda_graphs": False, TRUST: True} | keys_before(saved, reference)
    return Config(reference, saved["dataset"], [str(folder / CONFIG_FILE)], served)


def _check_model_is_the_same(folder: Path, config: Config, reference: str, metrics: dict) -> None:
    """Refuse a model of another revision, and warn of one whose source has changed."""
    trained, now = metrics["model_revision"], config.model_class.revision
    if trained != now:
        raise ValueError(
            f"{folder} holds revision {trained} of {config['model']}, but this version has "
            f"revision {now}, which computes something else. Load it with the version that trained "
            f"it, git revision {metrics.get('git_revision')}, or train the run anew."
        )
    if source_digest(config.model_class) != metrics.get("model_source"):
        _logger.warning(
            f"The source of {reference} has changed since the run in {folder} was trained. If it "
            "now computes something else, so does the loaded model."
        )


def _rows(folder: Path, config: Config, metrics: dict) -> list[CTRDataset]:
    """The run's training, validation and test rows, checked against its fingerprints."""
    parts = load_parts(folder / DATA_FILE, config)
    rows = data_fingerprint(parts)
    if rows != metrics["data_fingerprint"]:
        raise ValueError(
            f"{folder / DATA_FILE} holds rows {rows[:12]}, but the run was trained on rows "
            f"{metrics['data_fingerprint'][:12]}. The file belongs to another run, or config.yaml "
            "was edited."
        )
    features = rows_fingerprint(parts)
    if features != metrics["rows_fingerprint"]:
        raise ValueError(
            f"{folder / DATA_FILE} is damaged or of another run: its digest is {features[:12]}, "
            f"that of the run {metrics['rows_fingerprint'][:12]}. {COPY_OR_ANEW}"
        )
    return parts


def _semantic_ids(folder: Path, metrics: dict) -> SemanticIDs | None:
    """The run's semantic IDs, checked against their digest; None if its model reads none."""
    if not metrics["semantic_ids"]:
        return None
    semantic_ids = SemanticIDs.load(folder / SEMANTIC_ID_FOLDER)
    if semantic_ids.digest != metrics["semantic_ids"]:
        raise ValueError(
            f"{folder / SEMANTIC_ID_FOLDER} holds semantic IDs {semantic_ids.digest[:12]}, but the "
            f"run was trained on {metrics['semantic_ids'][:12]}. The folder belongs to another run."
        )
    return semantic_ids


def _model(
    folder: Path,
    config: Config,
    parts: Sequence[CTRDataset],
    semantic_ids: SemanticIDs | None,
    metrics: dict,
) -> AbstractRecommender:
    """The run's model with its weights, in evaluation mode."""
    init_seed(config["seed"], config["reproducibility"])
    training_rows = model_view(config, parts[0], semantic_ids)
    model = config.model_class(config, training_rows).to(config["device"])
    load_weights(model, folder / WEIGHTS_FILE, metrics["weights_sha256"])
    return model.eval()
