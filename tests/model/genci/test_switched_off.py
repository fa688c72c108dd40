"""The keys of GenCI that another key leaves out, against what they change."""

import pytest
import torch
from conftest import SMALL_GENCI, make_model, tiny_rows, write_dataset

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.model.genci.genci import GenCI

#: Another value of every key of GenCI that may be left out, and of some that may not.
_OTHER_VALUES = {
    **{"intent_extraction": "target", "attention_heads": 1, "cohort_residual": False},
    **{"cohorts": "prefix", "cohort_fusion": "concat", "cohort_scale": 0.1, "num_beams": 2},
    **{"cohort_gradient": False, "history_tokens": "code", "intent_width": 4, "intent_layers": 2},
    **{
        "intent_heads": 1,
        "intent_feed_forward_size": 8,
        "intent_dropout": 0.5,
        "intent_scale": 1.0,
    },
    **{"share_item_embeddings": True, "intent_norm": True, "sr_loss": "mse"},
    **{"history_attention": "causal", "segment_clicks": 2},
    **{"sr_dropout_prob": 0.7, "sr_teacher": "PNN", "dropout_prob": 0.5, "eta": 0.5},
}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"use_short_term": False},
        {"use_short_term": False, "use_long_term": False},
        {"use_short_term": False, "use_long_term": False, "mu": 0},
        {"use_short_term": False, "use_long_term": False, "candidate_log_probs": "joint", "mu": 0},
        {"use_long_term": False, "mu": 0, "eta": 0},
        {"intent_extraction": "mean"},
        {"intent_extraction": "literal", "intent_norm": True},
    ],
)
def test_exactly_the_keys_that_change_nothing_are_said_to_do_nothing(keys, tmp_path):
    own = write_dataset(tmp_path, tiny_rows()) | SMALL_GENCI | {"segment_clicks": 4}
    parts = create_dataset(Config("GenCI", "tiny", config_dict=own)).build()

    def computed(**changes):
        model, (train, *_) = make_model("GenCI", parts, own | keys | changes)
        torch.manual_seed(1)
        losses = torch.stack(model.train().calculate_loss(train[:40]))
        sum(losses).backward()  # cohort_gradient shows in gradients alone
        of_items = model.token_embedding_table.embedding.weight.grad
        return torch.cat([model.eval().predict(train[:40]), losses, of_items.flatten()]).detach()

    before = computed()
    silent = {
        key
        for key, value in _OTHER_VALUES.items()
        if key not in keys and torch.equal(computed(**{key: value}), before)
    }
    said = GenCI.switched_off(Config("GenCI", "tiny", config_dict=own | keys))
    # Beams also serve diagnostics, wherever there is a generator.
    assert silent - {"num_beams"} == (said.keys() & _OTHER_VALUES.keys()) - keys.keys() - {
        "num_beams"
    }
