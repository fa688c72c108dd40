"""The command ``python -m recbole_genci.tokenizer --dataset=NAME [--key=value ...]``."""

import sys

from recbole_genci.utils.imports import uncollected

with uncollected(own_process=True):
    from recbole_genci.tokenizer.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
