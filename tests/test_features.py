"""Every kind of RecBole feature reaches every model that can use it."""

import numpy as np
import pytest
import torch
from conftest import make_model, tiny_rows, with_context, write_dataset

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.plan import prepare

CONTEXT_MODELS = (
    "LR",
    "FwFM",
    "NFM",
    "PNN",
    "FiGNN",
    "DeepFM",
    "DCNV2",
    "AutoInt",
    "xDeepFM",
    "GenCI",
    "AFN",
    "AFN+",
    "RFM",
    "MIRRN",
    "SFG",
)
#: One of each family; the others are slow tests.
QUICK = ("LR", "DeepFM", "FiGNN", "GenCI", "MIRRN")
KINDS = {
    "token": "token",
    "tokens": "token_seq",
    "float": "float",
    "number": "float",
    "floats": "float_seq",
    "numbers": "float_seq",
}
FIELDS = {source: [f"{source}_{kind}" for kind in KINDS] for source in ("user", "item", "row")}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A dataset with each kind of feature twice, of users, of items and of rows."""
    folder, rows, rng = tmp_path_factory.mktemp("features"), tiny_rows(), np.random.default_rng(0)
    keys = write_dataset(folder, rows)

    def cells():
        words = " ".join(rng.choice(list("abcd"), rng.integers(0, 4), replace=False))
        sequences = [
            " ".join(f"{value:.2f}" for value in rng.random(rng.integers(1, 4))) for _ in range(2)
        ]
        return [
            rng.choice(list("xyz")),
            words,
            f"{rng.random():.3f}",
            f"{9 * rng.random():.3f}",
            *sequences,
        ]

    ids = {
        "user": [[f"u{i}"] for i in range(12)],
        "item": [[f"i{i}"] for i in range(20)],
        "row": rows,
    }
    heads = {
        "user": ["user_id:token"],
        "item": ["item_id:token"],
        "row": ["user_id:token", "item_id:token", "label:float", "timestamp:float"],
    }
    for source, file in (("user", "tiny.user"), ("item", "tiny.item"), ("row", "tiny.inter")):
        lines = [heads[source] + [f"{source}_{name}:{kind}" for name, kind in KINDS.items()]]
        lines += [[*map(str, row), *cells()] for row in ids[source]]
        (folder / "tiny" / file).write_text("".join("\t".join(line) + "\n" for line in lines))
    numbers = [field for fields in FIELDS.values() for field in fields[2:]]
    return keys | {
        "load_col": None,
        "numerical_features": numbers,
        "item_text_fields": ["item_tokens"],
        "mlp_hidden_size": [16, 16, 16],
    }


@pytest.mark.parametrize(
    ("name", "reached", "more"),
    [
        pytest.param(
            name, ("user", "item", "row"), {}, marks=() if name in QUICK else pytest.mark.slow
        )
        for name in CONTEXT_MODELS
    ]
    + [
        ("DIN", ("item",), {"use_user_features": False}),
        ("DIN", ("user", "item"), {}),
        ("DIEN", ("user", "item"), {}),
    ],
)
def test_a_change_in_any_feature_changes_the_prediction_where_it_is_read(keys, name, reached, more):
    known = ["GenCI", name]
    config = Config(name, "tiny", config_dict=keys | more, compared_models=known)
    parts = create_dataset(config).build()
    assert config.model_class.reads_row_features == ("row" in reached)

    def predictions():
        model, views = make_model(name, parts, keys | more)
        model.train()  # every kind of feature also trains
        losses = model.calculate_loss(views[0][np.arange(64)])
        loss = sum(losses) if isinstance(losses, tuple) else losses
        loss.backward()
        assert torch.isfinite(loss) and all(
            p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters()
        )
        return model.eval().predict(views[0][np.arange(64)]).detach()

    before = predictions()
    for source, fields in FIELDS.items():
        for field in fields:
            tables = (
                [part.inter_feat for part in parts]
                if source == "row"
                else [getattr(parts[0], f"{source}_feat")]
            )
            kept = [table[field] for table in tables]
            for table, column in zip(tables, kept):
                table.interaction[field] = torch.cat(
                    [column[:1], column[1:].roll(1, 0)]
                )  # row 0 of a table is the padding
            changed = not torch.equal(predictions(), before)
            for table, column in zip(tables, kept):
                table.interaction[field] = column
            assert changed == (source in reached), (
                f"{name} {'ignores' if source in reached else 'reads'} {field}"
            )
    assert torch.equal(predictions(), before)


def test_whoever_loads_features_of_rows_hears_which_models_read_none(tmp_path, caplog):
    keys = with_context(tmp_path, write_dataset(tmp_path, tiny_rows()))
    with caplog.at_level("INFO"):
        prepare("DeepFM,DIN", "tiny", config_dict=keys)
    said = [m for m in caplog.messages if "none of rows" in m]
    assert said == ["DIN reads features of users and items, but none of rows: device, tags, price."]


def test_a_field_named_like_an_attached_column_is_refused(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows()) | {"load_col": None}
    file = tmp_path / "tiny/tiny.inter"
    file.write_text(
        file.read_text()
        .replace("timestamp:float", "timestamp:float\titem_length:float", 1)
        .replace("\n", "\t1\n")
        .replace("float\t1\n", "float\n", 1)
    )
    with pytest.raises(
        ValueError, match="item_length is the name of a column that this plugin attaches"
    ):
        create_dataset(Config("DeepFM", "tiny", config_dict=keys))


@pytest.mark.parametrize("fields", [{0: ["user_id", "age"], 1: ["item_id", "year", "genre"]}, None])
def test_fwfm_trains_and_saves_the_weight_of_each_pair_of_fields(tmp_path, fields):
    keys = write_dataset(tmp_path, tiny_rows()) | {"fields": fields}
    parts = create_dataset(
        Config("FwFM", "tiny", config_dict=keys, compared_models=["GenCI"])
    ).build()
    model, views = make_model("FwFM", parts, keys)
    assert "weight" in model.state_dict() and any(p is model.weight for p in model.parameters())
    batch = views[0][np.arange(50)]
    embeddings = model.concat_embed_input_fields(batch)
    names = ["genre", "user_id", "item_id", "age", "year"]
    assert [*model.token_seq_field_names, *model.token_field_names] == names
    group = (
        {n: g for g, members in fields.items() for n in members}
        if fields
        else {n: i for i, n in enumerate(names)}
    )
    expected = model.first_order_linear(batch).squeeze(-1)
    for i, one in enumerate(names):
        for j in range(i + 1, len(names)):
            dot = (embeddings[:, i] * embeddings[:, j]).sum(-1)
            expected = expected + dot * model.weight[group[one], group[names[j]], 0]
    assert torch.allclose(model(batch), expected, atol=1e-6)
    model.calculate_loss(batch).backward()
    assert model.weight.grad.abs().sum() > 0


def test_fwfm_fields_must_name_every_feature_once(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows()) | {
        "fields": {0: ["user_id"], 1: ["item_id", "year"]}
    }
    parts = create_dataset(
        Config("FwFM", "tiny", config_dict=keys, compared_models=["GenCI"])
    ).build()
    with pytest.raises(
        ValueError, match="fields: .* name each feature once; the features are genre, user_id"
    ):
        make_model("FwFM", parts, keys)
