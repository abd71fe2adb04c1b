"""Where processes listen, as the kernel of Linux tells."""

import ipaddress
import os
import struct
from pathlib import Path

LISTENING = "0A"
"""State of a socket in /proc/net/tcp."""


def hosts(process: int) -> list[str]:
    """Addresses that a process listens on, one a socket; IPv4 in IPv6 is IPv4."""
    inodes = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            inodes.add(os.readlink(link))
        except FileNotFoundError:  # closed in between
            continue
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENING and f"socket:[{inode}]" in inodes:
                listening.append(_host(local.partition(":")[0]))
    return listening


def family(process: int) -> list[int]:
    """A process and all that it started, and they."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:  # ended in between
            continue
        if int(parent) == process:
            children += family(int(stat.parent.name))
    return [process, *children]


def _host(hexadecimal: str) -> str:
    """An address as the kernel prints it: words in the machine's order of bytes."""
    words = bytes.fromhex(hexadecimal)
    packed = struct.pack(
        f">{len(words) // 4}I", *struct.unpack(f"={len(words) // 4}I", words)
    )
    parsed = ipaddress.ip_address(packed)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
