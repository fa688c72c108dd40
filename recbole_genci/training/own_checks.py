"""Try a person's own model and metrics on a few rows before anything is trained."""

from __future__ import annotations

import torch

from recbole_genci.config import Config
from recbole_genci.config.metric_names import RECBOLE_METRICS
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.evaluation.scoring import check_probabilities, metrics_of, users_of_part
from recbole_genci.training.launch import world_size
from recbole_genci.utils.own_code import errors_in_words, is_importable, is_reference, name_of

_ROWS = 32


def check_for_processes(config: Config) -> None:
    """Refuse a model or metric that the processes of ``nproc`` cannot import."""
    if world_size(config) > 1:
        check_importable(config, f"nproc: {config['nproc']}")


def check_importable(config: Config, setting: str) -> None:
    """Refuse a model or metric that other processes cannot import.

    Args:
        config: the Config.
        setting: the setting that starts other processes, for the error.

    Raises:
        ValueError: the model or metric was defined in a program, a notebook or a function.
    """
    for key, references in {
        "model": [config.model_reference],
        "metrics": config["metrics"],
    }.items():
        for reference in references:
            if is_reference(reference) and not is_importable(reference):
                raise ValueError(
                    f"{key}: {name_of(reference)} exists in this process alone, and the other "
                    f"processes of {setting} could not import it. Write it into a file and give "
                    f"path/to/file.py:{name_of(reference)}."
                )


def try_model(config: Config, training_part: CTRDataset) -> None:
    """Build the model; if it is a person's own, also let it predict and learn from some rows.

    Its errors then show before training.

    Args:
        config: the model's Config.
        training_part: the model's view of the training rows.

    Raises:
        ValueError: a setting is wrong, or a person's own code failed; names its file and line.
    """
    if not is_reference(config.model_reference):
        config.model_class(config, training_part).load_initial_weights()
        return
    with errors_in_words("model", config["model"]):
        model = config.model_class(config, training_part).to(config["device"])
        model.load_initial_weights()
        batch = training_part[:_ROWS].to(config["device"])
        with torch.no_grad():
            check_probabilities(model, model.eval().predict(batch), len(batch))
        losses = model.train().calculate_loss(batch)
        for loss in losses if isinstance(losses, tuple) else (losses,):
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                raise ValueError(
                    f"model: {config['model']}.calculate_loss must return one number, as a tensor, "
                    "or a tuple of such parts."
                )


def try_metrics(config: Config, valid_part: CTRDataset) -> None:
    """Try GAUC and a person's own metrics on random scores of the validation rows.

    Their errors then show before training.

    Raises:
        ValueError: a metric failed, or ``valid_metric`` is undefined on these rows.
    """
    if all(name in RECBOLE_METRICS for name in config["metrics"]):
        return
    labels = valid_part.inter_feat[valid_part.label_field]
    scores = torch.rand(len(labels), generator=torch.Generator().manual_seed(0))
    values = metrics_of(config, scores, labels, users_of_part(valid_part))
    chosen = str(config["valid_metric"])
    if values[chosen.lower()] != values[chosen.lower()]:
        raise ValueError(
            f"valid_metric: {chosen} of the validation rows is undefined, so that no epoch would "
            "be the best. Choose another of metrics."
        )
