"""Names and what they do in, the help of a command that has parts out. Imports nothing, so that help is quick."""

from __future__ import annotations

from collections.abc import Mapping


def overview(prog: str, what: str, part: str, parts: Mapping[str, str], example: str) -> str:
    """The help, several lines.

    Args:
        prog: What is typed: ``dfdet store``.
        what: What it is for.
        part: What its parts are called: ``PART``.
        parts: What each does, by name.
        example: A command to try.
    """
    width = max(map(len, parts)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in parts.items()]
    usage = f"usage: {prog} {part} ...        ({prog} {part} --help says more)"
    return "\n".join([f"{prog}: {what}", "", usage, "", *lines, "", f"example: {example}"])
