"""``python -m recbole_genci.export``: a finished run's scorer as a program without Python."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.validation import nearest

USAGE = """\
usage: python -m recbole_genci.export --run=FOLDER --output=FILE [--key=value ...]

Writes the scorer of a finished run as a program of plain tensors, which needs neither Python nor
this package: ids of users and items, histories and the rows' own features in, click probabilities
out, for any number of rows. Its probabilities are checked against the model's on rows of the run.

  --run           the folder of a finished run, saved/<model>-<dataset>-<time>
  --output        .pt2, for torch.export.load and AOTInductor; or .onnx, for ONNX Runtime, which
                  needs pip install onnx onnxscript onnxruntime. Beside it OUTPUT.json says what
                  each input is, and OUTPUT.vocabularies.json numbers the tokens
  --items         further items: .item, .csv or .parquet, as for Ranker.with_items
  --unseen        embedding of users that the run does not know: mean (default) or padding
  --model, --trust_code
                  for a model of your own, as for load()
"""
_NEEDED = {
    "run": "--run=saved/GenCI-ml-100k-<time>",
    "output": "--output=scorer.pt2",
}
_OPTIONS = (*_NEEDED, "items", "unseen", "model", "trust_code")


@answering
def main(argv: Sequence[str]) -> Work:
    """Check a request, and return the work of exporting.

    A wrong request is one sentence on stderr and exit status 2.
    """
    from recbole_genci.config import parse_argv
    from recbole_genci.config.command_line import key_value_words

    words = key_value_words(argv)
    if {"--help", "-h"} & set(words):
        print(USAGE, end="")
        return lambda: 0
    texts = dict(word[2:].split("=", 1) for word in words)  # paths stay as they are
    paths = {key: texts[key] for key in (*_NEEDED, "items") if key in texts}
    values = parse_argv(words) | paths
    if unknown := [key for key in values if key not in _OPTIONS]:
        raise ValueError(
            f"command line: --{unknown[0]} is no option of this command."
            f"{nearest(unknown[0], _OPTIONS)} --help lists them."
        )
    for key, example in _NEEDED.items():
        if not values.get(key):
            raise ValueError(f"command line: --{key} is missing, for example {example}.")
    return _prepared(values)


def _prepared(values: dict) -> Work:
    from recbole_genci.serving.export import check_export
    from recbole_genci.serving.ranker import UNSEEN_USERS, Ranker
    from recbole_genci.utils.logs import start_console

    start_console(None)
    output = Path(values["output"])
    check_export(output)
    ranker = Ranker(
        values["run"],
        values.get("model"),
        values.get("trust_code", False),
        values.get("unseen", UNSEEN_USERS),
    )
    if "items" in values:
        ranker = ranker.with_items(values["items"])

    def export() -> int:
        found = ranker.export(output)
        names = ", ".join(each["name"] for each in found["inputs"])
        difference = found["checked"]["largest_difference"]
        print(
            f"{output}: {found['run']['model']}, inputs {names}; at most {difference:.1e} from the "
            f"model on {found['checked']['rows']} rows."
        )
        return 0

    return export


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
