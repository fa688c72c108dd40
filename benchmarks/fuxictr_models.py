"""FuxiCTR's models with the settings of ours, and with the weights of ours.

The classes come from the folder ``model_zoo`` of a checkout, because the package on PyPI has
only the layers below them. No weight and no setting is guessed: what FuxiCTR cannot do alike is
refused.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from fuxictr_rows import HISTORY, field_names
from torch import nn

from recbole_genci.config.kind import per_rows
from recbole_genci.training.weight_decay import decay_in

#: Where the class of each of our models is in a checkout, and its name.
PLACES = {
    "DeepFM": ("DeepFM/DeepFM_torch/src/DeepFM.py", "DeepFM"),
    "DCNV2": ("DCNv2/src/DCNv2.py", "DCNv2"),
    "DIN": ("DIN/src/DIN.py", "DIN"),
    "AFN": ("AFN/src/AFN.py", "AFN"),
}
_WHOLE = (nn.Linear, nn.BatchNorm1d)  # layers whose weights are copied


def model_class(checkout: Path, name: str) -> type:
    """FuxiCTR's class for one of our models.

    Raises:
        ValueError, ImportError: the model has no counterpart, the checkout is none, or FuxiCTR
            cannot be imported.
    """
    if name not in PLACES:
        raise ValueError(f"models: '{name}' is not one of {', '.join(PLACES)}, which are compared.")
    file = checkout / "model_zoo" / PLACES[name][0]
    if not file.is_file():
        raise ValueError(
            f"fuxictr: {file} is missing; give the folder of a checkout of FuxiCTR's repository "
            "(github.com/reczoo/FuxiCTR), because the package on PyPI lacks its models."
        )
    if str(checkout) not in sys.path:  # behind an installed package, which is used if there is one
        sys.path.append(str(checkout))
    spec = importlib.util.spec_from_file_location(f"fuxictr_model_{name}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise ImportError(
            f"fuxictr: it cannot be imported ({error}); install it by pip install fuxictr, into an "
            "environment of its own, because it needs a newer ray than RecBole."
        ) from error
    return getattr(module, PLACES[name][1])


class Scale(nn.Module):
    """The factor of RecBole's attention weights, as an output activation of FuxiCTR's."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def settings(name: str, config: Any, ours: Any, rows: int, folder: Path) -> dict[str, Any]:
    """The arguments of FuxiCTR's class for the settings of our model.

    Args:
        config: our model's Config.
        ours: our model.
        rows: how many rows are trained on.
        folder: where FuxiCTR writes its checkpoints.

    Raises:
        ValueError: FuxiCTR has no such setting; names the key.
    """
    for key, wanted in {
        "weight_average": 0,
        "sr_weight": 0,
        "mixed": False,
        "min_patience_steps": 0,
    }.items():
        if config[key]:
            raise ValueError(f"{key}: FuxiCTR has none as ours; set it to {wanted}.")
    if config["weight_decay"] and config["weight_decay_of"] == "vectors":
        raise ValueError(
            "weight_decay_of: FuxiCTR cannot spare first-order weights; set 'embeddings' or ~."
        )
    if (by_rows := per_rows(config["weight_decay"])) and by_rows.per_vector:
        raise ValueError(
            f"weight_decay: '{config['weight_decay']}' is another number for each of our tables, "
            "but FuxiCTR has one; set a number or a text such as 200/rows."
        )
    same = {"learner": "adam", "valid_metric": "auc", "eval_step": 1, "precision": "fp32"}
    for key, wanted in (same | {"nproc": 1}).items():
        if str(config[key]).lower() != str(wanted):
            raise ValueError(f"{key}: both sides of this check have {wanted}, not {config[key]}.")
    decay = decay_in(config["weight_decay"], rows) or None
    hidden, dropout = list(config["mlp_hidden_size"]), config["dropout_prob"]
    found = {
        "gpu": -1,
        "model_id": name,
        "model_root": str(folder),
        "embedding_dim": config["embedding_size"],
        "learning_rate": config["learning_rate"],
        "optimizer": "adam",
        "loss": "binary_crossentropy",
        "metrics": ["AUC", "logloss"],
        "monitor": "AUC",
        "early_stop_patience": config["stopping_step"] + 1,
        "reduce_lr_on_plateau": False,
        "embedding_regularizer": decay,
        "net_regularizer": decay if config["weight_decay_of"] is None else None,
        "net_dropout": dropout,
        "verbose": 0,
    }
    if name == "DeepFM":
        return found | {"hidden_units": hidden, "batch_norm": False}
    if name == "DCNV2":
        structure = config["structure"]
        return found | {
            "model_structure": structure,
            f"{structure}_dnn_hidden_units": hidden,
            "num_cross_layers": config["cross_layer_num"],
            "batch_norm": True,
        }
    if name == "AFN":
        if config["ensemble_dnn"]:
            raise ValueError("ensemble_dnn: this check compares AFN, not AFN+.")
        return found | {
            "ensemble_dnn": False,
            "afn_hidden_units": hidden,
            "afn_dropout": dropout,
            "logarithmic_neurons": config["logarithmic_neurons"],
            "batch_norm": False,
        }
    return found | _of_din(config, ours, hidden)


def _of_din(config: Any, ours: Any, hidden: list[int]) -> dict[str, Any]:
    for key, wanted in {"use_user_features": True, "interest_product": False}.items():
        if config[key] != wanted:
            raise ValueError(f"{key}: FuxiCTR's DIN has this form alone: {wanted}.")
    if config["attention_activation"] == "dice":
        raise ValueError(
            "attention_activation: FuxiCTR's dice normalises over padding too, ours over clicks; "
            "set it to sigmoid, relu or tanh."
        )
    items = field_names(ours)["item"]
    width = config["embedding_size"] * len(items)
    return {
        "dnn_hidden_units": hidden,
        "dnn_activations": "SiLU",  # what RecBole's Dice computes
        "batch_norm": True,
        "attention_hidden_units": list(config["attention_mlp_hidden_size"] or hidden),
        "attention_hidden_activations": config["attention_activation"],
        "attention_output_activation": Scale(width**-0.5),
        "din_target_field": [tuple(items)],
        "din_sequence_field": [tuple(name + HISTORY for name in items)],
    }


# ---------------------------------------------------------------- weights


def copy_weights(name: str, ours: Any, theirs: Any) -> None:
    """Give FuxiCTR's model the weights and running statistics of ours, padding aside, which is 0.

    Raises:
        ValueError: the models are not of one form.
    """
    with torch.no_grad():
        for field, table in _tables(getattr(ours, "embedding_layer", ours)).items():
            _copy_table(theirs.embedding_layer, field, table)
        if name == "DeepFM":
            for field, table in _tables(ours.first_order_linear).items():
                _copy_table(theirs.fm.lr_layer.embedding_layer, field, table)
            theirs.fm.lr_layer.bias.copy_(ours.first_order_linear.bias)
            pairs = [(ours.mlp_layers, ours.deep_predict_layer)], [theirs.mlp]
        elif name == "DCNV2":
            for own, weight, bias in zip(
                theirs.crossnet.cross_layers, ours.cross_layer_w, ours.bias, strict=True
            ):
                own.weight.copy_(weight)
                own.bias.copy_(bias.squeeze(1))
            deep = getattr(theirs, f"{theirs.model_structure}_dnn")
            pairs = [(ours.mlp_layers, ours.predict_layer)], [deep, theirs.fc]
        elif name == "AFN":
            change = ours.transformation
            pairs = (
                [(change.log_norm, change.orders, change.exp_norm, ours.mlp, ours.predict_layer)],
                [theirs.log_batch_norm, theirs.coefficient_W, theirs.exp_batch_norm]
                + [theirs.dense_layer],
            )
        else:
            attention = ours.attention.att_mlp_layers, ours.attention.dense
            pairs = (
                [attention, (ours.dnn_mlp_layers, ours.dnn_predict_layers)],
                [theirs.attention_layers, theirs.dnn],
            )
        own = [layer for group in pairs[0] for part in group for layer in _layers(part)]
        other = [layer for part in pairs[1] for layer in _layers(part)]
        if [_shapes(layer) for layer in own] != [_shapes(layer) for layer in other]:
            raise ValueError(
                f"{name}: the layers of FuxiCTR's model and of ours differ: "
                f"{[_shapes(layer) for layer in other]}, {[_shapes(layer) for layer in own]}."
            )
        for mine, its in zip(own, other):
            its.load_state_dict(mine.state_dict())


def _layers(module: nn.Module) -> list[nn.Module]:
    return [each for each in module.modules() if isinstance(each, _WHOLE)]


def _shapes(layer: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.state_dict().values()]


def _tables(layer: Any) -> dict[str, torch.Tensor]:
    """The embedding table of each field, ``[V, d]``, in a layer of RecBole's."""
    kinds = list(layer.token_field_names) if isinstance(layer.token_field_names, dict) else [None]
    found = {}
    for kind in kinds:
        names, sizes, sequences, table, tables = (
            value if kind is None else value[kind]
            for value in (
                layer.token_field_names,
                layer.token_field_dims,
                layer.token_seq_field_names,
                layer.token_embedding_table,
                getattr(layer, "token_seq_embedding_table", ()),
            )
        )
        found |= dict(zip(names, table.embedding.weight.split(list(sizes)), strict=True))
        found |= {name: own.weight for name, own in zip(sequences, tables, strict=True)}
    return found


def _copy_table(layer: Any, field: str, table: torch.Tensor) -> None:
    own = layer if hasattr(layer, "embedding_layers") else layer.embedding_layer
    module = own.embedding_layers[field]
    first = 0 if module.padding_idx is None else 1
    module.weight[first:].copy_(table[first:])
