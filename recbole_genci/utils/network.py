"""Where several machines meet: which addresses this one has, and how it reaches another."""

from __future__ import annotations

import ipaddress
import socket

import psutil


def interface_towards(host: str, port: int) -> str:
    """The name of the interface, such as ``eth0``, by which packets to an address leave.

    For an address of this machine it is the interface that has the address. Nothing is sent.

    Raises:
        ValueError: there is no such host, no way to it, or no interface has the way's address.
    """
    try:
        family, kind, protocol, _, address = _resolved(host, port)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # of a datagram socket: the system only chooses the way
            own = probe.getsockname()[0]
    except (OSError, UnicodeError) as error:
        raise _no_way(host, error) from error
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == own.partition("%")[0] for each in addresses):
            return name
    raise ValueError(f"ip: no network interface of this machine has {own}, its way to '{host}'.")


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host, as its name is resolved here.

    Raises:
        ValueError: there is no such host.
    """
    try:
        return [address[0].partition("%")[0] for *_, address in _resolved(host, port)]
    except (OSError, UnicodeError) as error:
        raise _no_way(host, error) from error


def own_addresses() -> list[str]:
    """The addresses of this machine's interfaces by which others can reach it."""
    return [
        each.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family in (socket.AF_INET, socket.AF_INET6) and not _is_of_this_wire(each.address)
    ]


def is_loopback(address: str) -> bool:
    """Whether an address names the machine itself, whichever it is."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _is_of_this_wire(address: str) -> bool:
    """Whether an address is loopback, or one that means another machine on each interface."""
    return is_loopback(address) or ipaddress.ip_address(address.partition("%")[0]).is_link_local


def _resolved(host: str, port: int) -> list:
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)


def _no_way(host: str, error: Exception) -> ValueError:
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ValueError(
        f"ip: this machine has no way to '{host}' ({why}). Give the first machine's address in "
        "the network that all machines share."
    )
