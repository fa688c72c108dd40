"""Every command answers an error in one sentence, with the status of a refusal or a failure."""

import errno

import numpy as np
import pytest
import torch

from recbole_genci.utils.answers import answering, in_words
from recbole_genci.utils.disk import check_room
from recbole_genci.utils.writing import WriteError, naming, write_json


def caught(function):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function()
    return caught.value


def _raise(error):
    raise error


def command(prepare_error=None, work_error=None):
    def prepare(argv):
        def work():
            if work_error:
                raise work_error
            return 0

        if prepare_error:
            raise prepare_error
        return work

    return answering(prepare)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a key"),
        OSError("a file"),
        ImportError("a package"),
        RuntimeError("a lock"),
        FloatingPointError("a loss"),
    ],
)
def test_requests_are_refused_with_2_and_work_fails_with_1(error, capsys):
    assert command(prepare_error=error)([]) == 2
    assert command(work_error=error)([]) == 1
    assert command()([]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith("recbole_genci: a ") for line in said)


def test_notes_follow_and_debug_shows_the_traceback(capsys):
    error = ValueError("It broke.")
    error.add_note("Go on by: this")
    assert command(work_error=error)([]) == 1
    assert "It broke. Go on by: this\n" in capsys.readouterr().err
    for words in (["--state=DEBUG"], ["--state", "debug"]):
        with pytest.raises(ValueError, match="It broke"):
            command(work_error=error)(words)


def test_a_fault_of_this_package_keeps_its_traceback():
    with pytest.raises(KeyError):
        command(work_error=KeyError("x"))([])


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: np.empty(1 << 55, dtype=np.uint8),
        lambda: torch.empty(1 << 55),
        lambda: _raise(MemoryError()),
        lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")),
    ],
)
def test_a_lack_of_memory_names_what_to_lower(allocate):
    words = in_words(caught(allocate))
    assert words.startswith("out of memory on ") and "Lower train_batch_size" in words
    assert ("the GPU (9.00 GiB were asked" in words) == ("CUDA" in str(caught(allocate)))


def test_errors_of_libraries_name_the_place_or_the_remedy(tmp_path):
    assert in_words(caught(lambda: open(tmp_path / "x"))) == (
        f"{tmp_path / 'x'}: No such file or directory."
    )
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    adam = torch.optim.Adam([parameter], weight_decay=1e300)
    assert "lower learning_rate, weight_decay" in in_words(caught(adam.step))
    words = in_words(caught(lambda: write_json(tmp_path / "x", {"a": float("nan")})))
    assert "(ValueError at utils/writing.py, line " in words


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "x"), r"\(No space left on device\). Free some room on its disk"),
        (OSError(errno.EFBIG, "x"), r"\(File too large\). Free some room"),
        (OSError(errno.EACCES, "x"), r"\(Permission denied\). Look after its folder"),
        (OSError("10 requested and 4 written"), r"\(10 requested and 4 written\)"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(tmp_path, error, said):
    with pytest.raises(WriteError, match=f"a/b could not be written {said}"), naming("a/b"):
        raise error


def test_safetensors_words_of_a_full_disk_are_understood(tmp_path):
    from safetensors import SafetensorError

    words = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(WriteError, match=r"\(No space left on device\)"), naming(tmp_path):
        raise SafetensorError(words)


def test_room_is_checked_where_the_folder_will_be(tmp_path):
    check_room(tmp_path / "not/yet", "checkpoint_dir", 1, "weights")
    with pytest.raises(
        ValueError, match=r"^checkpoint_dir: .* GB free, and about 1000000.0 GB are needed for w"
    ):
        check_room(tmp_path / "not/yet", "checkpoint_dir", 10**15, "weights")
    assert not (tmp_path / "not").exists()
