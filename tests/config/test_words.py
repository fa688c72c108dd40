"""What the words of a command line mean."""

import pytest

from recbole_genci.config import parse_argv, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.001", 0.001),
        ("1e-3", 0.001),
        ("3", 3),
        ("[16, 32]", [16, 32]),
        ("{'rating': 4}", {"rating": 4}),
        ("true", True),
        ("False", False),
        ("None", None),
        ("~", None),
        ("os.name", "os.name"),
        ("1/0", "1/0"),
        ("20_20", 2020),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("mean", "mean"),
        ("'a'", "a"),
        (7, 7),
        ("{[1]: 2}", "{[1]: 2}"),
        ("[" * 9999, "[" * 9999),
        ("-" * 99999 + "1", "-" * 99999 + "1"),
        ("9" * 5000, "9" * 5000),
        ("\0", "\0"),
    ],
)
def test_values_are_read_as_literals_and_never_run(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize("words", [["--epochs"], ["epochs=3"], ["--epochs", "3"], ["--=3"]])
def test_words_that_are_not_key_value_are_refused(words):
    with pytest.raises(ValueError, match="--key=value"):
        parse_argv(words)


def test_a_value_may_contain_an_equals_sign_and_a_key_must_not_contradict_itself():
    assert parse_argv(["--data_path=a=b"]) == {"data_path": "a=b"}
    assert parse_argv(["--output=2024_01_02", "--dataset=1e3"]) == {
        "output": "2024_01_02",
        "dataset": "1e3",
    }
    assert parse_argv(["--semantic_id_path=none"]) == {"semantic_id_path": None}
    assert parse_argv(["--mlp_hidden_size=(16,(8,))"]) == {
        "mlp_hidden_size": [16, [8]]
    }  # RecBole adds lists to sizes
    with pytest.raises(ValueError, match="--epochs is given twice, as '1' and as '2'.$"):
        parse_argv(["--epochs=1", "--epochs=2"])
    # What a shell makes of --load_col={inter:[user_id,item_id]}
    with pytest.raises(ValueError, match="shell has divided one value .* in quotation marks"):
        parse_argv(["--load_col=inter:[user_id", "--load_col=item_id]"])
