"""Which GPU a Config computes on, on a machine that seems to have some or none."""

import os

import pytest

from recbole_genci.config import Config, gpus


@pytest.fixture
def machine(monkeypatch):
    """A process that has not asked CUDA yet; returns what sets whether there are GPUs, and the
    environment it began with.
    """

    def begin(there: bool, variable: str | None = None):
        monkeypatch.setenv(gpus.VARIABLE, variable or "")  # so that it is put back
        monkeypatch.setattr(gpus, "_process", gpus.VisibleGPUs(at_start=variable))
        monkeypatch.setattr(
            "torch.cuda.is_available", lambda: there and os.environ[gpus.VARIABLE] != ""
        )

    return begin


def config_of(*argv, **keys):
    return Config("LR", "ml-100k", argv=argv, **keys)


def file_of(folder, gpu_id):
    (folder / "saved.yaml").write_text(
        f"gpu_id: '{gpu_id}'"
    )  # as of a run, on another machine perhaps
    return {"config_file_list": [str(folder / "saved.yaml")]}


def test_a_gpu_that_is_not_there_is_refused_where_it_was_asked_for(tmp_path, machine):
    machine(there=False)
    for asked in (
        {"config_dict": {"gpu_id": 0}},
        {"argv": ["--gpu_id=7"]},
        {"argv": ["--gpu_id=0,1"]},
    ):
        with pytest.raises(
            ValueError, match="gpu_id: .* was asked for, but torch .* finds no such GPU here"
        ):
            Config("LR", "ml-100k", **asked)
    for fine in (
        file_of(tmp_path, 0),
        {"argv": ["--gpu_id="]},
        {"argv": ["--gpu_id=1", "--use_gpu=False"]},
        {},
    ):
        assert Config("LR", "ml-100k", **fine)["device"].type == "cpu"


@pytest.mark.parametrize("value", ["0,1", "[0,1]", [0, 1], (0, 1)])
def test_several_gpus_are_named_as_cuda_names_them(value, machine):
    machine(there=True)
    asked = (
        {"argv": [f"--gpu_id={value}"]}
        if isinstance(value, str)
        else {"config_dict": {"gpu_id": value}}
    )
    config = Config("LR", "ml-100k", **asked)
    assert (
        config["gpu_id"] == os.environ[gpus.VARIABLE] == "0,1" and config["device"].type == "cuda"
    )


def test_a_run_on_the_cpu_hides_no_gpu_from_a_later_one(machine):
    machine(there=True)
    config = config_of("--use_gpu=False")
    assert (config["gpu_id"], config["use_gpu"], config["device"].type) == ("", False, "cpu")
    assert config_of(config_dict={"gpu_id": ""})["device"].type == "cpu"
    config = config_of()
    assert (config["gpu_id"], config["use_gpu"], config["device"].type) == ("0", True, "cuda")


def test_a_process_has_one_choice_of_gpus(tmp_path, machine):
    machine(there=True)
    config_of("--gpu_id=2")
    for other in ("1", "0,1"):
        with pytest.raises(
            ValueError, match="gpu_id: .* was asked for, but this process began with GPU '2'"
        ):
            config_of(config_dict={"gpu_id": other})
    # What nobody asked for by hand follows: a default, and a saved run's file.
    for keys in ({}, file_of(tmp_path, 5), {"config_dict": {"gpu_id": 2}}):
        assert config_of(**keys)["gpu_id"] == os.environ[gpus.VARIABLE] == "2"
    assert config_of(**file_of(tmp_path, ""))["device"].type == "cpu"


def test_the_gpu_that_a_scheduler_gave_is_kept_unless_another_is_asked_for(tmp_path, machine):
    for variable in ("3", "MIG-1f2e"):
        machine(there=True, variable=variable)
        config_of("--use_gpu=False")
        for keys in ({}, file_of(tmp_path, 0)):
            assert config_of(**keys)["gpu_id"] == os.environ[gpus.VARIABLE] == variable
    machine(there=True, variable="3")
    assert config_of("--gpu_id=1")["gpu_id"] == "1"
    machine(there=True, variable="")  # hidden
    assert config_of()["device"].type == "cpu"
