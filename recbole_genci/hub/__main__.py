"""The command ``python -m recbole_genci.hub push FOLDER hf:user/name``, or ``pull``."""

import sys

from recbole_genci.utils.imports import uncollected

with uncollected(own_process=True):
    from recbole_genci.hub.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
