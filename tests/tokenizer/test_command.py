import json

import pytest
from conftest import tiny_rows, write_dataset

from recbole_genci.tokenizer import SemanticIDs, tokenize
from recbole_genci.tokenizer.command import main
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS


@pytest.fixture
def words(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows())
    names = (
        "data_path",
        "semantic_id_dir",
        "load_col",
        "item_text_fields",
        "text_encoder",
        "codebook_size",
        "lsa_dim",
        "codebook_dim",
        "rqvae_hidden_size",
        "rqvae_epochs",
    )
    return ["--dataset=tiny", *(f"--{name}={keys[name]}" for name in names)], keys


def _folders(tmp_path):
    return sorted((tmp_path / "semantic_ids").glob("tiny-*"))


def test_the_command_prints_and_saves_ids_and_report_and_python_gets_the_same(
    words, tmp_path, capsys
):
    argv, keys = words
    assert main(argv) == 0
    printed = capsys.readouterr().out
    (folder,) = _folders(tmp_path)
    assert "# Semantic IDs of 20 items" in printed and "level 1, code" in printed
    assert (folder / "report" / "report.md").read_text().strip() == printed.strip()
    ids = SemanticIDs.load(folder)
    assert json.loads((folder / "report" / "report.json").read_text())["digest"] == ids.digest
    assert (folder / "texts.tsv").read_text().splitlines()[0].startswith("i0\tStory 0")
    own = {name: keys[name] for name in keys if any(f"--{name}=" in word for word in argv)}
    assert tokenize("tiny", config_dict=own).digest == ids.digest
    assert main(argv) == 0 and _folders(tmp_path) == [folder]


def test_a_run_trains_with_the_very_ids_of_the_command(words, tmp_path):
    from recbole_genci.plan import prepare

    argv, keys = words
    assert main(argv) == 0
    (folder,) = _folders(tmp_path)
    plan = prepare("GenCI", "tiny", config_dict=keys | {"intent_width": 16, "intent_heads": 2})
    assert plan.semantic_ids.digest == SemanticIDs.load(folder).digest and _folders(tmp_path) == [
        folder
    ]


def test_items_of_rows_without_a_time_get_the_same_ids(words, tmp_path, capsys):
    argv, keys = words
    names = {word[2:].partition("=")[0] for word in argv}
    own = {name: keys[name] for name in keys.keys() & names}
    expected = tokenize("tiny", config_dict=own).digest
    file = tmp_path / "tiny/tiny.inter"
    lines = [line.rpartition("\t")[0] for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines) + "\n")
    columns = {**keys["load_col"], "inter": ["user_id", "item_id", "label"]}
    assert tokenize("tiny", config_dict=own | {"load_col": columns}).digest == expected
    argv = [word for word in argv if not word.startswith("--load_col=")]
    argv += ["--USER_ID_FIELD=~", "--ITEM_ID_FIELD=~", "--load_col={'inter': ['label']}"]
    assert main(argv) == 2
    assert "ITEM_ID_FIELD: it names no column, and semantic IDs are" in capsys.readouterr().err


def test_new_items_are_added_to_a_published_artifact(words, tmp_path, capsys):
    argv, _ = words
    assert main(argv) == 0
    (folder,) = _folders(tmp_path)
    write_dataset(tmp_path, tiny_rows(num_items=26, rows_per_user=60), num_items=26)
    assert main([*argv, f"--append_to={folder}", f"--output={tmp_path / 'more'}"]) == 0
    before, after = SemanticIDs.load(folder), SemanticIDs.load(tmp_path / "more")
    assert (after.codes[: len(before)] == before.codes).all() and len(after) == 26
    assert "# Semantic IDs of 26 items" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--quantizer=kmeans"], "quantizer: 'kmeans' is not one of rqvae, rkmeans"),
        (
            ["--codebook_balance=kmeans"],
            "codebook_balance: 'kmeans' is not one of sinkhorn, nearest",
        ),
        (["--lsa_dim=1"], "lsa_dim: 1 is not a whole number of at least 2"),
        (["--quantiser=rkmeans"], "Did you mean 'quantizer'"),
        (["--text_encoder=absent.npy"], "needs the file absent.npy"),
        (["--text_encoder_ids=ids.txt"], "text_encoder_ids: it names the items of a .npy file"),
        (["--append_to=there"], "go together"),
        (["--append_to=there", "--output=here"], "no semantic-ID folder there"),
        (["lsa"], "not of the form --key=value"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence_and_status_2(
    words, more, message, capsys, tmp_path
):
    argv, _ = words
    argv = [
        word
        for word in argv
        if not any(word.partition("=")[0] == extra.partition("=")[0] for extra in more)
    ]
    assert main([*argv, *more]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not _folders(tmp_path)


def test_a_missing_dataset_is_asked_for(capsys):
    assert main([]) == 2
    assert "--dataset is missing" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["-h", "--dataset=ml-100k"]])
def test_help_prints_the_usage_and_every_key(argv, capsys):
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert (
        "python -m recbole_genci.tokenizer --dataset=NAME" in printed
        and "--append_to=FOLDER" in printed
    )
    assert all(f"--{key}" in printed for key in TOKENIZER_KEYS)
    assert "Levels of the residual quantiser" in printed and ("movie_title" in printed) == (
        len(argv) == 2
    )
