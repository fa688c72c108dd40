"""Where a model keeps what belongs to an id: RecBole's layers, and tables of a model's own."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_model, tiny_rows, write_dataset

from recbole_genci import Ranker, load, run
from recbole_genci.model.base import ClickModel
from recbole_genci.model.registry import known_models
from recbole_genci.serving.unseen import embedding_segments, field_sizes, twin, with_mean_of

MLP = "mlp_hidden_size"  # no key of a model without one
NEW = pd.DataFrame(
    {"item_id": ["twin"], "title": ["Story"], "year": ["1993"], "genre": ["Horror Thriller"]}
)


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40))


class Towers(ClickModel):
    """Tables of its own for users and items, of which RecBole knows nothing."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.users = torch.nn.Embedding(dataset.user_num, 4)
        self.items = torch.nn.Embedding(dataset.item_num, 4)
        self.id_tables = {"users": config["USER_ID_FIELD"], "items": config["ITEM_ID_FIELD"]}

    def forward(self, interaction):
        users, items = self.users(interaction["user_id"]), self.items(interaction["item_id"])
        return (users * items).sum(-1) * 9


class Undeclared(Towers):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.id_tables = {}


def test_tables_of_ones_own_are_those_that_the_model_declares(keys):
    [result] = run(Towers, "tiny", config_dict={k: v for k, v in keys.items() if k != MLP})
    ranker = Ranker(load(result.folder, Towers))
    model, part = ranker.run.model, ranker.run.parts[0]
    user, item = (
        table.weight[torch.unique(part.inter_feat[field])].mean(0)
        for table, field in ((model.users, "user_id"), (model.items, "item_id"))
    )
    found = (
        ranker.with_items(NEW, "mean").score(["new"], ["twin"], user_features={"new": {}}).item()
    )
    assert found == pytest.approx(torch.sigmoid((user * item).sum() * 9).item(), abs=1e-6)
    padding = Ranker(ranker.run, unseen="padding").with_items(NEW, "padding")
    found = padding.score(["new"], ["twin"], user_features={"new": {}}).item()
    expected = torch.sigmoid((model.users.weight[0] * model.items.weight[0]).sum() * 9).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_tables_of_ones_own_that_are_not_declared_are_named(keys):
    [result] = run(Undeclared, "tiny", config_dict={k: v for k, v in keys.items() if k != MLP})
    ranker = Ranker(load(result.folder, Undeclared))
    with pytest.raises(ValueError, match="items: items.weight of Undeclared depends on the number"):
        ranker.with_items(NEW)


def test_clicked_items_as_a_field_of_the_user_know_new_items_too(keys):
    keys = keys | {"flatten_history": True}
    [result] = run("DeepFM", "tiny", config_dict=keys)
    ranker = Ranker(result.folder)
    model, part = ranker.run.model, ranker.run.loader("train").dataset
    wider = ranker.with_items(NEW, "mean")
    item = part.field2token_id["item_id"]["i3"]
    trained = torch.unique(part.inter_feat["item_id"])
    assert part.field2type["item_id_list"].value == "token_seq"
    for name, segments in embedding_segments(model, field_sizes(part)).items():
        for segment in segments:
            if segment.field in ("item_id", "item_id_list"):
                with torch.no_grad():
                    rows = model.get_parameter(name)[segment.rows]
                    rows[item] = rows[trained].mean(0)
    # The run's own item is now by hand what the new one is.
    for history, same in ((["twin"], ["i3"]), (["i1", "twin"], ["i1", "i3"])):
        np.testing.assert_allclose(
            wider.score(["u1"], ["i7", "twin"], histories={"u1": history}),
            ranker.score(["u1"], ["i7", "i3"], histories={"u1": same}),
            atol=1e-6,
        )


@pytest.mark.parametrize("name", known_models())
def test_every_model_shows_its_tables_of_users_and_items(name, tiny_parts):
    """A score that changes with an id does so by a table that is found, and by no other."""
    parts, keys = tiny_parts
    model, views = make_model(name, parts, keys)
    part = views[0]
    tables = embedding_segments(model, field_sizes(part))
    for field in ("user_id", "item_id"):
        found = [name for name, segments in tables.items() if field in {s.field for s in segments}]
        assert found, field
        for table in found:
            assert model.get_parameter(table).shape[0] == sum(s.size for s in tables[table])
    batch = part[np.arange(16)]
    batch.interaction["user_id"] = torch.zeros(16, dtype=torch.int64)
    model.zero_grad()
    model.predict(batch).sum().backward()
    read = {
        table
        for table, segments in tables.items()
        for s in segments
        if s.field == "user_id" and model.get_parameter(table).grad is not None
        if model.get_parameter(table).grad[s.first].abs().sum() > 0
    }
    others = {
        table
        for table, segments in tables.items()
        for s in segments
        if s.field == "user_id" and model.get_parameter(table).grad is not None
        if model.get_parameter(table).grad[s.first + 1 : s.first + s.size].abs().sum() > 0
    }
    assert not others
    trained = torch.zeros(part.user_num, dtype=torch.bool)
    trained[1:] = True
    changed = with_mean_of(model, tables, "user_id", trained)
    with torch.no_grad():
        before, after = model.predict(batch), changed.predict(batch)
    assert (not torch.equal(before, after)) == bool(read)


def test_a_twin_shares_everything_but_what_changes(tiny_parts):
    parts, keys = tiny_parts
    model, views = make_model("DIN", parts, keys)
    name = "embedding_layer.token_embedding_table.user.embedding.weight"
    other = twin(model, {name: torch.zeros_like(model.get_parameter(name))})
    assert model.get_parameter(name).abs().sum() > 0 and other.get_parameter(name).sum() == 0
    for key, value in model.state_dict().items():
        assert (other.state_dict()[key].data_ptr() == value.data_ptr()) == (key != name)
    assert other.embedding_layer.dataset is model.embedding_layer.dataset
    assert other.embedding_layer is not model.embedding_layer and not other.training
