"""The network interface by which this machine reaches another."""

from __future__ import annotations

import socket

import psutil


def interface_towards(host: str, port: int) -> str:
    """The name of the interface, such as ``eth0``, by which packets to an address leave.

    For an address of this machine it is the interface that has the address. Nothing is sent.

    Raises:
        ValueError: there is no such host, no way to it, or no interface has the way's address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # of a datagram socket: the system only chooses the way
            own = probe.getsockname()[0]
    except (OSError, UnicodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ValueError(
            f"ip: this machine has no way to '{host}' ({why}). Give the first machine's address in "
            "the network that all machines share."
        ) from error
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == own.partition("%")[0] for each in addresses):
            return name
    raise ValueError(f"ip: no network interface of this machine has {own}, its way to '{host}'.")
