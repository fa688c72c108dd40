"""CUDA graphs (`cuda_graphs`), with torch's tracer in the place of a GPU's capture.

The tracer, too, keeps the operations of one call, with all that the host decided in it, and runs
them on later numbers. It draws random numbers as the calls do.
"""

import contextlib
import gc
import itertools
import logging
import weakref

import pytest
import torch
from conftest import SMALL, SMALL_GENCI, tiny_rows, with_features, write_dataset
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recbole_genci import load
from recbole_genci.config import Config
from recbole_genci.data import dataset
from recbole_genci.model import cuda_graphs as graphs
from recbole_genci.model.batch_columns import HISTORY_LENGTH, SEGMENT_LENGTH, SEGMENTS
from recbole_genci.quick_start import run
from recbole_genci.training import trainer, unread_loss
from recbole_genci.training.own_checks import check_model_settings
from recbole_genci.utils import ragged

GRAPHS = {"cuda_graphs": True, "gpu_id": ""}

captured = []  # calls, since a test began


def traced(call, columns, pool):
    """As `graphs.capture`."""
    own = [each.clone() for each in columns]
    weights = [each for each in call.parameters() if each.requires_grad]
    learns = torch.is_grad_enabled()

    def everything(columns):
        result = call(*columns)
        parts = result if isinstance(result, tuple) else (result,)
        if not learns:
            return parts, ()
        total = sum(part for part in parts if part.requires_grad)
        return parts, torch.autograd.grad(total, weights, allow_unused=True)

    graph = torch.no_grad()(make_fx(everything)(own))
    kept = [torch.empty_like(each) for each in graph(own)[0]]  # as a graph, it has one place

    class Graphed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *weights):
            parts, ctx.gradients = graph(own)
            for mine, part in zip(kept, parts, strict=True):
                mine.copy_(part)
            return tuple(each.detach() for each in kept)

        @staticmethod
        def backward(ctx, *losses):
            assert all(each == 1 for each in losses)
            return ctx.gradients

    def replay(*columns):
        for mine, column in zip(own, columns, strict=True):
            mine.copy_(column)
        result = Graphed.apply(*weights)
        return result if call.gives_parts else result[0]

    call.gives_parts = isinstance(call(*own), tuple)
    captured.append(call)
    return replay


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Runs use graphs on this machine too."""
    monkeypatch.setattr(graphs, "capture", traced)
    monkeypatch.setattr(graphs, "new_pool", object)
    for module in (graphs, trainer, dataset):
        monkeypatch.setattr(module, "uses_graphs", lambda config: config["cuda_graphs"])
    captured.clear()


@pytest.fixture
def keys(tmp_path):
    data = write_dataset(tmp_path / "data", tiny_rows(num_users=30, rows_per_user=40))
    return data | {"epochs": 3, "stopping_step": 9, "dropout_prob": 0.2, "train_batch_size": 128}


FORMS = {
    "GenCI": SMALL_GENCI,
    "GenCI, causal": SMALL_GENCI | {"history_attention": "causal", "segment_clicks": 2},
    "GenCI, code, bf16": SMALL_GENCI | {"history_tokens": "code", "precision": "bf16"},
    "DeepFM": {},
    "DIN": {},
    "DIEN": {},
    "DCNV2": {},  # batch normalisation
    "DeepFM, a history and a teacher": {"flatten_history": True, "sr_weight": 1.0},
}


def assert_loaded_alike(by_graphs, without):
    """Both runs have the same weights, and the first is served without graphs."""
    loaded, other = (load(each.folder) for each in (by_graphs, without))
    # Requests have many shapes.
    assert not loaded.config["cuda_graphs"] and not loaded.loader("test").dataset.few_shapes
    mine, theirs = (each.model.state_dict() for each in (loaded, other))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("form", FORMS)
def test_a_run_by_graphs_is_the_run_without_to_the_last_bit(form, keys, as_on_a_gpu, monkeypatch):
    more = FORMS[form] | {"latency_repeats": 1} | GRAPHS
    name = form.partition(",")[0]
    by_graphs = run(name, "tiny", config_dict=keys | SMALL.get(name, {}) | more)[0]
    assert len(captured) >= 2  # a loss and a prediction
    monkeypatch.setattr(graphs, "MOST_SHAPES", 0)
    captured.clear()
    without = run(name, "tiny", config_dict=keys | SMALL.get(name, {}) | more)[0]
    assert not captured
    assert by_graphs["best_valid"] == without["best_valid"]
    assert by_graphs["test"] == without["test"]
    assert_loaded_alike(by_graphs, without)


class Doubling(torch.nn.Module):
    """A model of one weight, whose batches are dicts."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, batch):
        self.calls += 1
        return self.weight * batch.interaction["x"]


class Rows:
    def __init__(self, columns):
        self.interaction = columns


def doubled(replayed, *numbers):
    return replayed(Rows({"x": torch.tensor(numbers)}))


@pytest.fixture
def replayed(as_on_a_gpu):
    model = Doubling()
    return graphs.Replayed(model, model, torch.device("cpu"))


def test_a_shape_is_captured_when_it_comes_for_the_third_time(replayed):
    with torch.no_grad():
        for numbers in [(1.0,), (2.0,), (3.0, 4.0), (5.0, 6.0), (7.0,), (8.0,), (9.0, 1.0)]:
            assert doubled(replayed, *numbers).tolist() == [2 * each for each in numbers]
    assert len(captured) == 2
    assert replayed.module.calls == 7  # a capture computes too, and leaves no trace


def test_what_differs_in_gradients_or_mode_is_a_shape_of_its_own(replayed):
    for _ in range(3):
        doubled(replayed, 1.0)
        with torch.no_grad():
            doubled(replayed, 1.0)
    replayed.module.eval()
    doubled(replayed, 1.0)
    assert len(captured) == 2


def test_a_replay_has_gradients_and_reads_the_weights_of_now(replayed):
    for step in range(5):
        x = float(step)
        loss = doubled(replayed, x).sum()
        loss.backward()
        assert replayed.module.weight.grad == x
        assert loss == replayed.module.weight.detach() * x
        with torch.no_grad():
            replayed.module.weight += 1
        replayed.module.weight.grad = None
    assert len(captured) == 1


def test_predictions_are_copies(replayed):
    with torch.no_grad():
        found = [doubled(replayed, float(number)) for number in range(6)]
    assert torch.cat(found).tolist() == [0, 2, 4, 6, 8, 10]


def test_at_most_so_many_shapes_are_captured(replayed, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_SHAPES", 2)
    with torch.no_grad():
        for _ in range(4):
            for rows in range(1, 5):
                assert doubled(replayed, *[1.5] * rows).tolist() == [3.0] * rows
    assert len(captured) == 2


@pytest.mark.parametrize("follows", [False, True])
def test_without_memory_batches_run_without_graphs(follows, replayed, monkeypatch, caplog):
    def full(*_):
        try:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        finally:
            if follows:
                raise RuntimeError("CUDA error: operation failed")

    monkeypatch.setattr(graphs, "capture", full)
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        for number in range(6):
            assert doubled(replayed, float(number)) == 2 * number
    assert [each.getMessage() for each in caplog.records] == [
        "cuda_graphs: the GPU's memory has no room for another graph; batches of shapes that have "
        "none run without."
    ]


def test_what_cannot_be_captured_is_refused_by_name(replayed, monkeypatch):
    def waits(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "capture", waits)
    doubled(replayed, 1.0), doubled(replayed, 2.0)
    with pytest.raises(
        ValueError,
        match="^cuda_graphs: Doubling does what cannot be captured.* Leave the key out.* not perm",
    ):
        doubled(replayed, 3.0)
    assert replayed.module.calls == 2


class Recorded:
    """In the place of `torch.cuda.CUDAGraph`: operations, which a replay does again in place."""

    def __init__(self):
        self.operations = []
        graphs_made.append(weakref.ref(self))

    def replay(self):
        with torch.no_grad():
            for func, args, kwargs, results in self.operations:
                again = tree_leaves(func(*args, **kwargs))
                for kept, new in zip(results, again, strict=bool(results)):
                    kept.copy_(new)


class Recorder(TorchDispatchMode):
    def __init__(self, graph, pool):
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        results = [each.detach() for each in tree_leaves(found) if isinstance(each, torch.Tensor)]
        in_place = any(
            each.alias_info and each.alias_info.is_write for each in func._schema.arguments
        )
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        memory = {each.untyped_storage().data_ptr() for each in given}
        shares = any(each.untyped_storage().data_ptr() in memory for each in results)
        if torch.Tag.inplace_view not in func.tags and (in_place or not shares):
            self.graph.operations.append((func, args, kwargs, [] if in_place else results))
        return found


graphs_made = []


@pytest.fixture
def recorded(monkeypatch):
    """As `as_on_a_gpu`, by torch's own `make_graphed_callables`."""
    modes = []
    for name, each in {
        "CUDAGraph": Recorded,
        "graph": Recorder,
        "Stream": object,
        "stream": lambda stream: contextlib.nullcontext(),
        "synchronize": lambda: None,
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": modes.append,
    }.items():
        monkeypatch.setattr(torch.cuda, name, each)
    monkeypatch.setattr(graphs, "new_pool", object)
    for module in (graphs, trainer, dataset):
        monkeypatch.setattr(module, "uses_graphs", lambda config: config["cuda_graphs"])
    graphs_made.clear()
    return modes


@pytest.mark.parametrize("form", ["DCNV2", "DIN, a teacher"])
def test_torchs_own_graphs_train_and_predict_the_same(form, keys, recorded, monkeypatch):
    per_batch = trainer.CTRTrainer._loss_of_batches
    monkeypatch.setattr(
        trainer.CTRTrainer,
        "_loss_of_batches",
        lambda *given: unread_loss.unread(per_batch(*given)),
    )
    name = form.partition(",")[0]
    keys |= GRAPHS | {"clip_grad_norm": {"max_norm": 0.5}, "sr_weight": float(name == "DIN")}
    by_graphs = run(name, "tiny", config_dict=keys)[0]
    assert len(graphs_made) >= 4  # of a loss and a prediction, each forwards and backwards
    monkeypatch.setattr(graphs, "MOST_SHAPES", 0)
    without = run(name, "tiny", config_dict=keys)[0]
    assert by_graphs["test"] == without["test"]
    assert_loaded_alike(by_graphs, without)


def replayed_three_times(model):
    replayed = graphs.Replayed(model, model, torch.device("cpu"))
    for number in range(3):
        doubled(replayed, float(number), 1.0).sum().backward()
    return replayed


def test_graphs_of_an_earlier_run_are_gone_before_the_next_has_any(recorded):
    gc.disable()
    try:
        replayed_three_times(Doubling())
        assert [each() is not None for each in graphs_made] == [True, True]
        replayed_three_times(Doubling())
        assert [each() is not None for each in graphs_made] == [False, False, True, True]
    finally:
        gc.enable()


def test_no_node_of_autograd_at_the_weights_outlives_its_batch(recorded):
    """Its stream is another one, for which a capture cannot wait, and a step should not."""
    fresh = []

    class Marking(Doubling):
        def forward(self, batch):
            node = torch.autograd.graph.get_gradient_edge(self.weight).node
            fresh.append("old" not in node.metadata)
            node.metadata["old"] = True
            return super().forward(batch)

    model = Marking()
    replayed, losses = graphs.Replayed(model, model, torch.device("cpu")), None
    for numbers in [(1.0,)] * 5 + [(1.0, 2.0)] * 4:
        losses = doubled(replayed, *numbers)
        fresh.append("new batch")
        loss = losses.sum()  # which the next batch finds, as in RecBole's loop
        loss.backward()
    eager, checked, warm_up, capture = [True], [True], [True, False, False], [False]
    batch = ["new batch"]
    once = eager + batch + eager + batch + checked + warm_up + capture + batch
    assert fresh == once + batch * 2 + once + batch
    assert "old" not in torch.autograd.graph.get_gradient_edge(model.weight).node.metadata
    assert model.weight.grad == 5 + 4 * 3


@pytest.mark.parametrize("learns", [True, False])
def test_a_graph_has_copies_that_can_be_written_to_in_any_mode(learns, recorded):
    model = Doubling()
    replayed = graphs.Replayed(model, model, torch.device("cpu"))
    with torch.inference_mode(not learns):
        found = [doubled(replayed, float(number)) for number in range(5)]
    assert len(graphs_made) == 2
    assert found[-1] == 8 and found[-1].requires_grad == learns
    if not learns:
        assert torch.cat(found).tolist() == [0, 2, 4, 6, 8]


def test_what_waits_is_refused_before_a_capture_by_its_place(recorded):
    class Waiting(Doubling):
        def forward(self, batch):
            if recorded and recorded[-1] == "error":
                raise RuntimeError("called a synchronizing CUDA operation")
            return super().forward(batch)

    with pytest.raises(
        ValueError,
        match=r"^cuda_graphs: Waiting .* torch says of test_cuda.*.py, line \d+: called a sync",
    ):
        replayed_three_times(Waiting())
    assert recorded == ["error", 0]
    assert not graphs_made


def test_a_failed_capture_is_told_by_its_first_error(replayed, monkeypatch):
    def fails(*_):
        try:
            raise RuntimeError("not permitted when stream is capturing")
        finally:
            raise RuntimeError("failed due to a previous error during capture")

    monkeypatch.setattr(graphs, "capture", fails)
    with pytest.raises(ValueError, match=r"torch says of test_cuda.*.py, line \d+: not permitted"):
        [doubled(replayed, 1.0) for _ in range(3)]


def test_a_buffer_that_each_call_replaces_is_refused(recorded):
    class Replacing(Doubling):
        def forward(self, batch):
            self.calls = self.calls + 1
            return self.weight * batch.interaction["x"]

    with pytest.raises(ValueError, match="^cuda_graphs: Replacing puts another tensor .* in place"):
        replayed_three_times(Replacing())


@pytest.mark.parametrize("form", [{}, {"history_attention": "causal", "segment_clicks": 2}])
def test_batches_have_few_shapes_and_what_is_added_is_read_by_no_row(
    form, parts_and_keys, as_on_a_gpu
):
    (part, *_), keys = parts_and_keys
    config = Config("GenCI", "tiny", config_dict=keys | SMALL_GENCI | form | GRAPHS)
    codes = torch.zeros(part.item_num, 3, dtype=torch.int64)
    shapes = set()
    for rows in (slice(0, 64), slice(70, 134), slice(3, 131, 2)):
        batch = part.view(config, codes)[rows].interaction
        plain = Config("GenCI", "tiny", config_dict=keys | SMALL_GENCI | form)
        expected = part.view(plain, codes)
        expected.few_shapes, expected.least_width = False, 2
        expected = expected[rows].interaction
        shapes.add(tuple((name, column.shape) for name, column in batch.items()))
        for name, column in expected.items():
            head = batch[name][tuple(map(slice, column.shape))]
            assert torch.equal(head, column), name
        assert (batch[HISTORY_LENGTH][len(expected[HISTORY_LENGTH]) :] == 0).all()
        assert batch[SEGMENTS].sum() == expected[SEGMENTS].sum()
        assert len(batch[SEGMENT_LENGTH]) == 128
        assert batch[SEGMENTS].shape[1] == config["MAX_ITEM_LIST_LENGTH"]
    assert len(shapes) == 1


def test_wide_sequences_of_features_have_one_width_too(tmp_path, as_on_a_gpu, monkeypatch):
    monkeypatch.setattr(ragged, "NARROW", 0)
    keys = with_features(tmp_path, write_dataset(tmp_path, tiny_rows()))
    part = dataset.create_dataset(Config("DeepFM", "tiny", config_dict=keys)).build()[0]

    def widths(more):
        view = part.view(Config("DeepFM", "tiny", config_dict=keys | more))
        return {view[[row]].to("cpu")["tags"].shape[1] for row in range(40)}

    assert widths({}) == {1, 2, 3}
    assert widths(GRAPHS) == {3}


def test_the_key_needs_a_gpu_and_one_process(keys, caplog):
    with pytest.raises(ValueError, match="^cuda_graphs: 2 processes .* leave out cuda_graphs"):
        Config("GenCI", "tiny", config_dict=keys | GRAPHS | {"nproc": 2})
    config = Config("GenCI", "tiny", config_dict=keys | GRAPHS)
    assert config.without_effect == {"cuda_graphs": "The device is no GPU."}
    assert not graphs.uses_graphs(config)
    assert "cuda_graphs" not in Config("GenCI", "tiny", config_dict=keys).without_effect


@pytest.mark.parametrize("name", ["DIN", "DIEN"])
def test_dice_in_an_attention_is_refused_before_data_are_read(name, keys):
    config = Config(name, "tiny", config_dict=keys | GRAPHS | {"attention_activation": "dice"})
    with pytest.raises(ValueError, match="^cuda_graphs: Dice in the attention .* one of both"):
        check_model_settings(config)


def test_an_unread_loss_does_not_change_with_that_of_a_graph():
    loss = torch.ones((), dtype=torch.float64)
    number = loss.as_subclass(unread_loss.Unread).item()
    loss += 1
    assert number == 1


@pytest.mark.parametrize("parts", [1, 2])
def test_unread_losses_sum_to_what_recbole_sums(parts):
    weight = torch.tensor(0.1, requires_grad=True)
    total, expected = None, 0.0
    for step in range(20):
        losses = tuple(weight * (step + part) for part in range(parts))
        loss = unread_loss.unread(lambda _, losses=losses: losses if parts > 1 else losses[0])(None)
        numbers = [each.item() for each in (loss if parts > 1 else (loss,))]
        assert all(type(number) is torch.Tensor for number in numbers)
        total = numbers if total is None else [a + b for a, b in zip(total, numbers)]
        expected += sum(each.item() for each in losses)
        (sum(loss) if parts > 1 else loss).backward()
    assert sum(total).item() == pytest.approx(expected, abs=1e-12)
    assert weight.grad == sum(step + part for step in range(20) for part in range(parts))


def test_a_loss_that_is_not_finite_ends_the_epoch_that_has_it(keys, monkeypatch):
    factor = itertools.chain(
        [1.0, float("nan")], itertools.repeat(1.0)
    )  # of the second batch alone

    def loss_of_batches(self, _):
        return unread_loss.unread(lambda batch: self.model.calculate_loss(batch) * next(factor))

    monkeypatch.setattr(trainer.CTRTrainer, "_loss_of_batches", loss_of_batches)
    with pytest.raises(FloatingPointError, match="^DeepFM: the loss of a batch is nan in epoch 1;"):
        run("DeepFM", "tiny", config_dict=keys)
