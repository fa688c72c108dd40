"""The garbage collector rests while libraries are imported."""

import gc
import subprocess
import sys

from recbole_genci.utils.imports import uncollected


def test_what_a_command_imports_is_not_searched_again():
    code = """
import gc
from recbole_genci.utils.imports import uncollected
with uncollected():
    assert not gc.isenabled()
assert gc.isenabled() and gc.get_freeze_count() > 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_program_that_had_torch_keeps_its_collector():
    frozen = gc.get_freeze_count()
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() == frozen
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
