"""``python -m recbole_genci.export``: a finished run's scorer as a program without Python."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_genci.serving.run_command import RUN_OPTIONS, options_of, ranker_of
from recbole_genci.utils.answers import Work, answering

USAGE = """\
usage: python -m recbole_genci.export --run=FOLDER --output=FILE [--key=value ...]

Writes the scorer of a finished run as a tensor program, which needs neither Python nor this
package. It takes ids of users and items, histories and the rows' own features, and returns click
probabilities, for any number of rows. They are checked against the model's on rows of the run.

  --run           the folder of a finished run, saved/<model>-<dataset>-<time>, or hf:user/name of
                  one on the Hugging Face hub
  --output        .pt2, for torch.export.load and AOTInductor; or .onnx, for ONNX Runtime, which
                  needs pip install onnx onnxscript onnxruntime. Beside it OUTPUT.json says what
                  each input is, and OUTPUT.vocabularies.json numbers the tokens
  --items         new items: a .item, .csv or .parquet file, as for Ranker.with_items
  --unseen        embedding of users that the run does not know: mean (default) or padding
  --model, --trust_code
                  for a model of your own: its module:Class, or True to import what the run names
"""
_NEEDED = {
    "run": "--run=saved/GenCI-ml-100k-<time>",
    "output": "--output=scorer.pt2",
}


@answering
def main(argv: Sequence[str]) -> Work:
    """Check a request, and return the work of exporting.

    A wrong request is one sentence on stderr and exit status 2.
    """
    values = options_of(argv, USAGE, _NEEDED, RUN_OPTIONS, (*_NEEDED, "items"))
    return _prepared(values) if values is not None else lambda: 0


def _prepared(values: dict) -> Work:
    from recbole_genci.serving.export import check_export
    from recbole_genci.utils.logs import start_console

    start_console(None)
    output = Path(values["output"])
    check_export(output)
    ranker = ranker_of(values)

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
