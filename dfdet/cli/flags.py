"""A command's own few flags, taken out before the rest goes to LightningCLI."""

from __future__ import annotations

from collections.abc import Sequence

from dfdet.errors import UserError


def split(arguments: Sequence[str], flags: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The values of ``flags`` (``--run DIR`` or ``--run=DIR``) and what remains.

    Raises:
        UserError: If a flag has no value.
    """
    found: dict[str, str] = {}
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        if flag not in flags:
            rest.append(word)
            continue
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise UserError(f"{flag} wants a value")
            value = waiting.pop(0)
        found[flag] = value
    return found, rest
