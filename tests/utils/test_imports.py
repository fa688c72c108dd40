"""The garbage collector rests while libraries are imported."""

import gc
import subprocess
import sys

from conftest import tiny_rows, write_dataset

from recbole_genci import run
from recbole_genci.utils.imports import uncollected


def test_what_a_command_imports_is_not_searched_again():
    code = """
import gc
from recbole_genci.utils.imports import uncollected
with uncollected(own_process=True):
    assert not gc.isenabled()
assert gc.isenabled() and gc.get_freeze_count() > 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_objects_of_a_program_are_freed():
    code = """
import gc, weakref
class Node: pass
node = Node()
node.itself, seen = node, weakref.ref(node)
from recbole_genci import load, run
del node
gc.collect()
assert seen() is None and gc.get_freeze_count() == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_program_that_had_torch_keeps_its_collector():
    frozen = gc.get_freeze_count()
    with uncollected(own_process=True):
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() == frozen
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_models_of_earlier_runs_are_freed(tmp_path):
    data = write_dataset(tmp_path / "data", tiny_rows())
    frozen = gc.get_freeze_count()
    run("DeepFM", "tiny", config_dict=data)
    assert gc.get_freeze_count() == frozen
