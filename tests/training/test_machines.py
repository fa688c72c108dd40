"""Two machines, network namespaces of this one, train one model together as one machine does."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import tiny_rows, write_dataset

from recbole_genci import plan, quick_start
from recbole_genci.quick_start import run
from recbole_genci.utils.network import interface_towards, own_addresses

pytestmark = pytest.mark.timeout(600)  # starting processes takes long on a busy machine
ROOT = Path(__file__).parents[2]


@pytest.fixture
def machines():
    """Names and addresses of two network namespaces with a wire between them."""
    names = [f"genci-{os.getpid()}-{number}" for number in (1, 2)]
    ends = [f"g{os.getpid() % 10**7}-{number}" for number in (1, 2)]
    addresses = ["10.213.77.1", "10.213.77.2"]

    def ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("ip"):
            pytest.skip("network namespaces need Linux, root and iproute2")
        try:
            for name in names:
                ip("netns", "add", name)
            wire = ("type", "veth", "peer", "name", ends[1], "netns", names[1])
            ip("link", "add", ends[0], "netns", names[0], *wire)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        for name, end, address in zip(names, ends, addresses):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            for each in ("lo", end):
                ip("-n", name, "link", "set", each, "up")
        yield list(zip(names, addresses))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def test_two_machines_end_with_the_metrics_of_one(machines, tmp_path):
    rows = tiny_rows(num_users=9, num_items=60, rows_per_user=101, seed=9)
    keys = {"epochs": 2, "stopping_step": 9, "dropout_prob": 0.0}
    started = []
    for number, (name, _) in enumerate(machines):  # each has its own disk
        own = tmp_path / name
        own.mkdir()
        here = write_dataset(own / "data", rows, num_items=60) | keys
        (own / "keys.yaml").write_text(yaml.safe_dump(here))
        words = {
            "model": "DeepFM",
            "dataset": "tiny",
            "config_files": "keys.yaml",
            "nproc": 1,
            "world_size": 2,
            "offset": number,
            "ip": machines[0][1],
            "port": 29_500,
        }
        # gloo would else take the address of the host's name, which is another machine's here
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(
                ["ip", "netns", "exec", name, sys.executable, str(ROOT / "run_recbole_genci.py")]
                + [f"--{key}={value}" for key, value in words.items()],
                cwd=own,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [each.communicate(timeout=500)[0] for each in started]
    assert [each.returncode for each in started] == [0, 0], said
    assert "Waits at 10.213.77.1:29500 until all 2 processes are there" in said[0]
    first, second = (tmp_path / name for name, _ in machines)
    (file,) = first.glob("saved/*/metrics.json")
    assert not list(second.glob("saved/*/metrics.json"))  # the first machine saves
    together = json.loads(file.read_text())
    (alone,) = run("DeepFM", "tiny", config_dict=write_dataset(tmp_path, rows, num_items=60) | keys)
    for part in ("best_valid", "test"):
        assert together[part] == pytest.approx(alone[part], abs=2e-6)
    assert together["best_epoch"] == alone["best_epoch"]


def test_the_interface_has_the_address_by_which_another_machine_is_reached():
    names = [name for _, name in socket.if_nameindex()]
    loopback = interface_towards("127.0.0.1", 29_500)
    assert loopback in names and loopback.startswith("lo")
    assert interface_towards("localhost", 29_500) == loopback


@pytest.fixture
def meeting(tmp_path, monkeypatch):
    """Prepare a run of two machines with these keys; rows must not be read."""
    keys = write_dataset(tmp_path, tiny_rows()) | {"nproc": 1, "world_size": 2, "port": 29_500}

    def rows(_):
        raise EOFError("the rows are read")

    monkeypatch.setattr(plan, "prepare_rows", rows)
    return lambda **more: plan.prepare("DeepFM", "tiny", config_dict=keys | more)


def test_a_meeting_place_elsewhere_gets_a_warning_on_the_first_machine(meeting, caplog):
    with pytest.raises(EOFError):
        meeting(ip="203.0.113.7")
    assert "ip: '203.0.113.7' is no address of this machine, and with offset 0" in caplog.text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ip": "no.such.invalid"}, "ip: this machine has no way to 'no.such.invalid' "),
        ({"ip": "no.such.invalid", "offset": 1}, "ip: this machine has no way to 'no.such.inv"),
    ],
)
def test_a_wrong_meeting_place_is_refused_before_rows_are_read(meeting, keys, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        meeting(**keys)


def test_a_machines_own_address_is_a_meeting_place_and_its_own_name_gets_a_warning(meeting, caplog):
    for address in own_addresses()[:1]:
        with pytest.raises(EOFError):
            meeting(ip=address)
    assert "ip:" not in caplog.text
    with pytest.raises(EOFError):
        meeting(ip="localhost")
    assert "ip: 'localhost' is this machine's name for itself" in caplog.text


def test_processes_that_do_not_meet_leave_no_folder(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no meeting")

    monkeypatch.setattr(quick_start, "train_together", fail)
    with pytest.raises(RuntimeError, match="no meeting"):
        run("DeepFM", "tiny", config_dict=write_dataset(tmp_path, tiny_rows()) | {"nproc": 2})
    assert not list(Path("saved").iterdir())


def test_a_host_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="^ip: this machine has no way to 'no.such.host.invalid'"):
        interface_towards("no.such.host.invalid", 29_500)
