"""Shared data: the real ml-100k inside RecBole, and small datasets in a temporary folder."""

from __future__ import annotations

import importlib
import pkgutil
import signal

import numpy as np
import pytest
import torch
from hypothesis import settings

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.model import genci
from recbole_genci.utils.figures import can_draw

torch.set_num_threads(1)

# A shell's background jobs ignore Ctrl-C, and so would the commands that tests start and stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine makes an example slow, not wrong.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


#: Modules of few tests that take minutes. They go first: else one worker ends with them alone.
LONGEST = ("test_document_blocks.py", "test_notebook.py", "test_planted_shift.py", "test_trip.py")


def pytest_configure(config):
    """Keep the order under pytest-xdist, which would begin with the modules of most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    """Runs write below the current folder; give each test its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quick_figures(monkeypatch):
    """Figures are made and written, but one dot of each is drawn: tests of figures draw them."""
    if can_draw():
        from matplotlib.figure import Figure
        from PIL import Image

        dot = Image.new("RGB", (1, 1))
        monkeypatch.setattr(Figure, "savefig", lambda self, file, **options: dot.save(file, "PNG"))


def kept_figures(module, monkeypatch):
    """A list that gets each figure which ``module`` saves."""
    kept, save = [], module.save

    def keep_and_save(figure, *more, **how):
        kept.append(figure)
        save(figure, *more, **how)

    monkeypatch.setattr(module, "save", keep_and_save)
    return kept


@pytest.fixture(scope="session")
def ml100k_parts():
    """Training, validation and test part of ml-100k by the shipped protocol."""
    return create_dataset(Config("DeepFM", "ml-100k")).build()


#: Keys that make a dataset of `write_dataset` readable.
TINY = {
    "load_col": {
        "inter": ["user_id", "item_id", "label", "timestamp"],
        "user": ["user_id", "age"],
        "item": ["item_id", "year", "genre"],
    },
    "item_text_fields": ["title", "genre", "year"],
    "text_encoder": "lsa",
    "MAX_ITEM_LIST_LENGTH": 5,
    "codebook_size": 4,
    "rqvae_epochs": 3,
    "lsa_dim": 8,
    "codebook_dim": 4,
    "rqvae_hidden_size": [8],
    "recipe": "paper",  # which learns fast, as a test must
    "epochs": 1,
    "train_batch_size": 32,
    "eval_batch_size": 64,
    "mlp_hidden_size": [16],
    "latency_repeats": 1,
    "metrics": ["AUC", "LogLoss"],
    "gpu_id": "",
}


def compute_as_on_a_gpu(monkeypatch):
    """GenCI takes the paths of a GPU, in every module of it that has a path of the CPU's own."""
    names = [f"{genci.__name__}.{each.name}" for each in pkgutil.iter_modules(genci.__path__)]
    modules = [each for each in map(importlib.import_module, names) if hasattr(each, "on_cpu")]
    assert len(modules) >= 5
    for module in modules:
        monkeypatch.setattr(module, "on_cpu", lambda x: False)


def tiny_rows(num_users=12, num_items=20, rows_per_user=25, seed=0):
    """Rows (user, item, label, time) with many ties in time; both labels for each user."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(num_users):
        # Epoch seconds a few apart: float32 could not tell them from one another.
        times = 1_700_000_000 + np.sort(rng.integers(0, rows_per_user // 2, rows_per_user)) * 3
        for time in times:
            rows.append(
                [f"u{user}", f"i{rng.integers(num_items)}", int(rng.random() < 0.6), int(time)]
            )
    order = rng.permutation(len(rows))
    return [rows[i] for i in order]


def write_dataset(folder, rows, name="tiny", num_items=20, num_users=12):
    """Write atomic files for `rows` into folder/name; return the keys that read them."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    lines = ["user_id:token\titem_id:token\tlabel:float\ttimestamp:float"]
    lines += ["\t".join(map(str, row)) for row in rows]
    (target / f"{name}.inter").write_text("\n".join(lines) + "\n")
    genres = ["Action", "Comedy Drama", "Drama", "Horror Thriller"]
    items = ["item_id:token\ttitle:token_seq\tyear:token\tgenre:token_seq"]
    items += [
        f"i{i}\tStory {i} of {genres[i % 4]}\t{1990 + i % 7}\t{genres[i % 4]}"
        for i in range(num_items)
    ]
    (target / f"{name}.item").write_text("\n".join(items) + "\n")
    users = ["user_id:token\tage:token"] + [f"u{u}\t{20 + u % 5}" for u in range(num_users)]
    (target / f"{name}.user").write_text("\n".join(users) + "\n")
    return TINY | {"data_path": str(folder), "semantic_id_dir": str(folder / "semantic_ids")}


def with_context(folder, keys):
    """Give rows features of their own; one number far from 0 to 1."""
    file, rng = folder / "tiny/tiny.inter", np.random.default_rng(0)
    lines = file.read_text().splitlines()
    more = [
        [
            rng.choice(["phone", "tv"]),
            " ".join(rng.choice(list("abc"), 2)),
            f"{rng.random() * 90:.2f}",
        ]
        for _ in lines[1:]
    ]
    more[3][2] = more[7][0] = more[9][1] = ""
    head = "device:token\ttags:token_seq\tprice:float"
    body = ["\t".join([line, *own]) for line, own in zip(lines[1:], more)]
    file.write_text("\n".join([f"{lines[0]}\t{head}", *body]) + "\n")
    keys["load_col"] = keys["load_col"] | {
        "inter": [*keys["load_col"]["inter"], "device", "tags", "price"]
    }
    return keys | {"numerical_features": ["price"], "normalize_field": ["price"]}


def with_features(folder, keys):
    """Give rows, users and items features of all kinds; some values are rare, some missing."""
    rng = np.random.default_rng(4)
    words = ["tv", "tv", "tv", "phone", "phone", "pad", "watch", "radio", "car"]
    columns = {
        "device:token": lambda: rng.choice(words),
        "tags:token_seq": lambda: " ".join(rng.choice(list("aaabbcdefg"), rng.integers(1, 4))),
        "price:float": lambda: f"{rng.normal() * 900:.2f}",
        "delay:float": lambda: f"{rng.random() * 40:.3f}",
        "steps:float_seq": lambda: " ".join(f"{each:.2f}" for each in rng.random(2) * 3),
        "hits:float": lambda: rng.geometric(0.1) - 2,
    }
    file = folder / "tiny/tiny.inter"
    lines = file.read_text().splitlines()
    for name, draw in columns.items():
        cells = [draw() if rng.random() > 0.05 else "" for _ in lines[1:]]
        lines = [f"{line}\t{cell}" for line, cell in zip(lines, [name, *cells])]
    file.write_text("\n".join(lines) + "\n")
    file = folder / "tiny/tiny.user"
    cells = ["income:float", *(f"{each:.1f}" for each in rng.random(99) * 1e5)]
    cells[3] = ""
    lines = file.read_text().splitlines()
    file.write_text("\n".join(f"{a}\t{b}" for a, b in zip(lines, cells)) + "\n")
    fields = [name.partition(":")[0] for name in columns]
    keys["load_col"] = keys["load_col"] | {
        "inter": [*keys["load_col"]["inter"], *fields],
        "user": ["user_id", "age", "income"],
    }
    return keys | {"numerical_features": ["price", "income"]}


#: The columns of Criteo: a label, 13 numbers and 26 hashes.
CRITEO_FIELDS = ["label", *(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27))]


def write_rows(folder, name, header, rows, file=None):
    """Write an atomic file of rows, ``name.inter`` by default, into folder/name."""
    lines = ["\t".join(header), *("\t".join(map(str, row)) for row in rows)]
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / (file or f"{name}.inter")).write_text("\n".join(lines) + "\n")


def write_criteo(folder, count, file=None, seed=0):
    """Write rows in Criteo's layout into folder/criteo; a fifth of the values is missing."""
    rng = np.random.default_rng(seed)
    numbers, hashes = rng.geometric(0.1, (count, 13)), rng.integers(0, 9, (count, 26))
    labels = numbers[:, 0] + 9 * (hashes[:, 0] < 3) + rng.geometric(0.2, count) > 18
    texts = np.vectorize("{:08x}".format)(hashes)
    cells = np.concatenate([numbers.astype(object), texts.astype(object)], axis=1)
    cells[rng.random(cells.shape) < 0.2] = ""
    kinds = ["float"] * 14 + ["token"] * 26
    header = [f"{field}:{kind}" for field, kind in zip(CRITEO_FIELDS, kinds)]
    rows = [[int(label), *own] for label, own in zip(labels, cells)]
    write_rows(folder, "criteo", header, rows, file)


def item_codes(num_items, level_sizes=(4, 4, 4), seed=0):
    """Unique semantic IDs ``[num_items, N]`` by item id; the last level numbers collisions, row 0
    (padding) is -1.
    """
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, num_items) for size in level_sizes], axis=1)
    digit, seen = np.zeros((num_items, 1), dtype=np.int64), {}
    for item in range(1, num_items):
        digit[item] = seen[tuple(codes[item])] = seen.get(tuple(codes[item]), -1) + 1
    codes = np.concatenate([codes, digit], axis=1)
    codes[0] = -1
    return codes


SMALL_GENCI = {
    "intent_width": 16,
    "intent_layers": 1,
    "intent_heads": 2,
    "intent_feed_forward_size": 16,
    "num_beams": 2,
}
SMALL = {
    "GenCI": SMALL_GENCI,
    "AFN": {"logarithmic_neurons": 6},
    "AFN+": {"logarithmic_neurons": 6, "dnn_hidden_size": [8]},
    "RFM": {"group_size": 8, "rotation_size": 8},
    "MIRRN": {"retrieval_topk": 3, "local_length": 2},
}


def make_model(name, parts, keys, seed=0):
    """A freshly initialised model on the training part, in evaluation mode, with the parts as it
    reads them.
    """
    from recbole.utils import init_seed

    from recbole_genci.model.registry import get_model

    small = SMALL.get(name, {})
    config_dict = keys | small | {k: v for k, v in keys.items() if k in small}
    config = Config(
        name, "tiny", config_dict=config_dict, compared_models=["GenCI"]
    )  # whose keys are in TINY
    views = [part.view(config, item_codes(part.item_num)) for part in parts]
    init_seed(seed, True)
    return get_model(name)(config, views[0]).eval(), views


#: For several models of one command.
SMALL_MODELS = SMALL_GENCI | SMALL["MIRRN"] | {"epochs": 1}


def trained_runs(folder, models):
    """The folders of small runs on a tiny dataset by model, and the dataset's keys."""
    from recbole_genci.quick_start import run

    keys = write_dataset(folder / "data", tiny_rows(rows_per_user=40))
    keys |= {"checkpoint_dir": str(folder / "saved"), "results_dir": str(folder / "results")}
    results = run(models, "tiny", config_dict=keys | SMALL_MODELS)
    return {result.model: result.folder for result in results}, keys


@pytest.fixture(scope="module")
def parts_and_keys(tmp_path_factory):
    """Parts with features of all kinds, read once for all tests of a file."""
    folder = tmp_path_factory.mktemp("data")
    keys = with_context(folder, write_dataset(folder, tiny_rows()))
    return create_dataset(Config("DIN", "tiny", config_dict=keys)).build(), keys


@pytest.fixture
def tiny_parts(tmp_path):
    """Parts of a small dataset with ties in time, and the keys that read it."""
    keys = write_dataset(tmp_path, tiny_rows())
    return create_dataset(Config("DIN", "tiny", config_dict=keys)).build(), keys


def interrupted(*args, **more):
    """In the place of a function during which a person presses Ctrl-C."""
    raise KeyboardInterrupt


def stop_after(epoch, monkeypatch, error=KeyboardInterrupt):
    """Interrupt training as Ctrl-C would, or by another error, once the state after `epoch`, from
    0, has been written.
    """
    from recbole_genci.training import trainer

    original = trainer.save_training_state

    def save_and_stop(folder, this, number, *rest):
        original(folder, this, number, *rest)
        if number == epoch:
            raise error("stop")

    monkeypatch.setattr(trainer, "save_training_state", save_and_stop)
