"""Check that machines have what runs need: room on the disk, and a place where processes meet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from recbole_genci.config import Config
from recbole_genci.config.protocol import world_size
from recbole_genci.training.own_checks import check_importable
from recbole_genci.utils.disk import check_room
from recbole_genci.utils.network import (
    addresses_of,
    interface_towards,
    is_loopback,
    own_addresses,
)

_logger = logging.getLogger(__name__)

#: Bytes of the tables, pages and pictures of a command, about.
RESULTS_SIZE = 2 << 20


def check_disk(configs: Sequence[Config], weights: Sequence[int], rows: int) -> None:
    """Check that the disk of ``checkpoint_dir`` has room for the runs, and that of ``results_dir``
    for their table.

    Args:
        configs: the Configs of the models.
        weights: bytes of the weights of each model.
        rows: bytes of the rows, which all runs share.

    Raises:
        ValueError: there is too little.
    """
    first = configs[0]
    # While a model is trained: its weights twice, and its state (weights and the optimiser's two
    # moments) twice, since a new file is written before the old one goes.
    needed = rows + first["seeds"] * sum(weights) + 8 * max(weights)
    folder = Path(first["checkpoint_dir"])
    what = "rows, weights and training states"
    if first["seeds"] > 1:
        what += f" of {first['seeds']} seeds"
    check_room(folder, "checkpoint_dir", needed, what)
    check_room(Path(first["results_dir"]), "results_dir", RESULTS_SIZE, "tables and pictures")


def check_for_processes(config: Config) -> None:
    """Check that processes of ``nproc`` can meet, and import the model and metrics.

    Raises:
        ValueError: one of them exists in this process alone, or ``ip`` is no address that this
            machine can reach.
    """
    if world_size(config) > 1:
        check_importable(config, f"nproc: {config['nproc']}")
        if config["port"] is not None:
            _check_meeting_place(config)


def _check_meeting_place(config: Config) -> None:
    """Refuse an ``ip`` that leads nowhere, and warn of one where processes may wait in vain."""
    host, port = config["ip"], config["port"]
    found = addresses_of(host, port)
    is_here_alone = all(map(is_loopback, found))
    own = own_addresses()
    if config["offset"]:
        interface_towards(host, port)
    elif not is_here_alone and not set(own) & set(found):
        also = "" if host in found else f" ({', '.join(found)})"
        # Not refused: torch listens on all addresses, and a container's service has another one.
        _logger.warning(
            f"ip: '{host}'{also} is no address of this machine, and with offset 0 it is the first "
            "one, where the others meet. If the address does not lead here, training will wait in "
            f"vain; then give one of {', '.join(own) or 'its own addresses'}."
        )
    if is_here_alone and world_size(config) > config["nproc"]:
        _logger.warning(
            f"ip: '{host}' is this machine's name for itself. Processes on other machines cannot "
            "meet it there; give all of them the first machine's address in the network that they "
            "share."
        )
