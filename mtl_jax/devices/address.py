"""Addresses of the network: where processes of one job meet."""

import ipaddress
import socket
import time
from typing import NamedTuple

from mtl_jax.types import InputError

LOOPBACK = "127.0.0.1"
PAUSE = 0.2
"""Seconds between two tries to connect."""


class Address(NamedTuple):
    """A host, by name or number, and a port."""

    host: str
    port: int


def parse(flag: str, text: str) -> Address:
    """Parse ``HOST:PORT``; a host that is an IPv6 number stands in brackets.

    >>> parse("coordinator", "[::1]:8476")
    Address(host='::1', port=8476)

    Args:
      flag: that gives the text, for the message.
      text: to be parsed.

    Raises:
      InputError: it is none, or its port cannot be.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(
            f"{flag} {text!r} is not HOST:PORT with a port of 1 to 65535, such as "
            f"{LOOPBACK}:8476."
        )
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def is_loopback(host: str) -> bool:
    """Return whether a host can only be this machine, whoever asks.

    A machine's own name does not count: to other machines it says something else.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("10.0.0.1")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def answers(address: Address, seconds: float) -> bool:
    """Return whether something accepts connections there, within so many seconds."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(address, timeout=max(seconds, PAUSE)).close()
            return True
        except OSError:
            if time.monotonic() >= end:
                return False
            time.sleep(PAUSE)
