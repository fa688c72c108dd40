"""Sentences about keys that nothing declares: what may be meant, and where a key would stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recbole_genci.config.keys import RECBOLE_FOLDER, known_keys, properties_folder, read_keys
from recbole_genci.model.registry import Entry, entry_of, known_models, resolve
from recbole_genci.utils.own_code import is_reference
from recbole_genci.utils.value_checks import closest, nearest
from recbole_genci.utils.words import listed

#: Other words for keys, of other libraries and papers.
_SYNONYMS = {
    "learning_rate": "lr step_size",
    "train_batch_size": "batch_size batch bs",
    "weight_decay": "l2 l2_reg wd decay reg regularization embedding_regularizer",
    "epochs": "num_epochs n_epochs max_epochs",
    "stopping_step": "patience early_stop early_stopping early_stopping_patience",
    "learner": "optimizer optimiser optim",
    "embedding_size": "embedding_dim embed_dim emb_dim emb_size dim",
    "dropout_prob": "dropout dropout_rate net_dropout drop_rate",
    "mlp_hidden_size": "hidden_units hidden_size hidden_sizes dnn_hidden_units layers mlp",
    "MAX_ITEM_LIST_LENGTH": "max_len max_length max_seq_len max_seq_length history_length",
    "gpu_id": "gpu gpus cuda",
    "seed": "random_seed random_state",
    "seeds": "num_seeds n_seeds",
    "metrics": "metric",
    "precision": "amp fp16 bf16 mixed_precision",
    "cuda_graphs": "compile torch_compile cudagraphs graphs",
    "checkpoint_dir": "output_dir save_dir saved",
    "data_path": "data_dir data_root root",
    "config_files": "config configs",
    "text_encoder": "encoder",
    "num_beams": "beams beam_size beam_width",
    "nproc": "num_processes processes nproc_per_node",
    "state": "log_level verbose",
}
_MEANT = {word: key for key, words in _SYNONYMS.items() for word in words.split()}
#: Words of a command line that are no keys, by whose they are.
WORDS_OF = {
    "--experiment, for example --experiment=compare": ("models", "against", "pack"),
    "run_hyper.py": (
        "params_file",
        "resume_search",
        "algo",
        "max_evals",
        "early_stop",
        "tool",
        "ray_address",
        "cpus_per_trial",
        "gpus_per_trial",
        "grace_epochs",
    ),
}
_OPTIONS = {"experiment", "resume", *(word for words in WORDS_OF.values() for word in words)}
_SHOWN = 4  # models of which a sentence names at most one more


def not_keys(unknown: Sequence[str], known: Iterable[str], whose: str) -> str:
    """Sentences that refuse keys: all of them if some model has all, else the first.

    Args:
        unknown: keys that are not known, one or more.
        known: the keys that are.
        whose: the known keys' owners, in words.
    """
    if len(unknown) > 1 and (models := models_with(*unknown)):
        keys = listed([f"'{key}'" for key in unknown], len(unknown))
        return f"{keys} are not keys of {whose}. They are keys of {listed(models, _SHOWN)}."
    return f"'{unknown[0]}' is not a key of {whose}.{_instead_of(unknown[0], set(known))}"


def check_words(
    words: Iterable[str],
    options: Iterable[str] = (),
    models: Sequence[str] = (),
    dataset: str | None = None,
) -> None:
    """Refuse words beside ``--help`` that no command knows; most likely they are misspelt.

    Args:
        words: keys of the command line.
        options: those of the command itself.
        models, dataset: as for ``key_table``.

    Raises:
        ValueError: names the first, and the nearest.
    """
    known = {*known_keys(models, dataset), *options}
    if unknown := [word for word in words if word not in known]:
        raise ValueError(f"command line: {not_keys(unknown, known, 'this command')}")


def _instead_of(key: str, known: set[str]) -> str:
    if models := models_with(key):
        return f" It is a key of {listed(models, _SHOWN)}."
    if owner := next((owner for owner, words in WORDS_OF.items() if key in words), None):
        return f" It belongs to {owner}."
    meant = _MEANT.get(key.lower().replace("-", "_"))
    if meant in known:
        return f" Did you mean '{meant}'?"
    if meant and (models := models_with(meant)):
        return f" Did you mean '{meant}'? It is a key of {listed(models, _SHOWN)}."
    return nearest(key, known | _OPTIONS)


def models_with(*keys: str) -> list[str]:
    """The known models that have keys of these names in their files, without aliases."""
    folders = RECBOLE_FOLDER / "properties/model", properties_folder() / "model"
    return [
        name
        for name in sorted(known_models(), key=str.lower)
        if resolve(name)[0] == name
        and read_keys(each / f"{name}.yaml" for each in folders).keys() >= set(keys)
    ]


def own_keys(models: Sequence[str | type]) -> str:
    """For people's own models: in which file the keys of each stand, and which it has."""
    words = []
    for entry in map(entry_of, models):
        if is_reference(entry.reference):
            keys = list(read_keys(entry.own_files))
            has = f", which has {', '.join(keys)}" if keys else ""
            words.append(f" The keys of {entry.name} are those of {own_file(entry)}{has}.")
    return "".join(words)


def own_file(entry: Entry) -> str:
    """The file that declares the keys of a person's own model, and what is there instead of it."""
    if not entry.own_files:
        return f"{entry.name}.yaml beside its file (it is in no file yet; write it into one)"
    file = entry.own_files[-1]
    if file.is_file():
        return str(file)
    there = [each.name for each in file.parent.iterdir() if each.suffix in (".yaml", ".yml")]
    other = closest(file.name, there)
    return f"{file} (not found; {other} is there)" if other else f"{file} (not found)"


def undeclared(entry: Entry, keys: Sequence[str]) -> str:
    """Say that keys which a person's own model has read are declared nowhere, and what to write.

    Args:
        entry: the model.
        keys: the keys in the order of reading; the last is the likely cause of an error.
    """
    read = listed([f"config['{key}']" for key in keys], len(keys))
    none, line = "is None: no file declares it", "a line"
    if len(keys) > 1:
        none, line = "are None: no file declares them", "a line for each,"
    return (
        f"{read} {none}. Write {line} such as `{keys[-1]}: {_guess(keys[-1])} What it is.` into "
        f"{own_file(entry)}."
    )


def _guess(key: str) -> str:
    """A default and a kind that a key of this name may have, for an example."""
    if key.startswith(("use_", "is_", "with_", "has_")):
        return "False  # (bool)"
    numbers = ("dropout", "rate", "ratio", "weight", "alpha", "temperature", "prob")
    return "0.1  # (float >= 0)" if any(map(key.__contains__, numbers)) else "16  # (int >= 1)"
