"""A process that leads a session of its own in, the processes that it has started and that still live out."""

from __future__ import annotations

from pathlib import Path


def members(session: int) -> list[int]:
    """The processes of a session that are not dead."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found
