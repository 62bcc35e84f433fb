"""A typed function in, its command line out: one look for every command that is not LightningCLI's."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from dfdet.errors import UserError, nearest


class CommandParser(ArgumentParser):
    """Raises a UserError in one line, with the nearest flag, where the stock parser prints its usage."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Called by jsonargparse for anything wrong in the arguments."""
        text = " ".join(message.split()).removeprefix("Parser key ")
        unknown = re.search(r"[Uu]nrecognized arguments: (\S+)", text)
        if unknown:
            flags = [s for a in self._actions for s in a.option_strings if s not in ("-h", "--print_shtab")]
            raise UserError(f"unknown argument {unknown[1]!r}", nearest(unknown[1], flags)) from ex
        value = re.match(r'"(\w+)": .*?(?:Got|Given) value: (.*)', text)
        if value:
            raise UserError(f"--{value[1]} does not take {value[2]!r}", _wanted(value[2], text)) from ex
        raise UserError(text, f"see `{self.prog} --help`") from ex


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def _wanted(value: str, text: str) -> str:
    """What jsonargparse's sentence says that a flag takes, in words."""
    choices = re.search(r"Literal\[(.*?)\]", text)
    if choices:
        return nearest(value, re.findall(r"'([^']*)'", choices[1]))
    kinds = [_KINDS.get(kind, kind) for kind in re.findall(r"Expected a <class '(\w+)'>", text) if kind != "NoneType"]
    return f"give {' or '.join(kinds)}" if kinds else ""


def parse(
    prog: str,
    function: Callable[..., Any],
    arguments: Sequence[str],
    example: str,
    more: Sequence[Callable[..., Any]] = (),
) -> Any:
    """Parses arguments against a function's signature; its docstring is the help.

    Args:
        prog: ``dfdet index``.
        function: Its required parameters are positional, the others flags.
        arguments: What was typed.
        example: A line that works, for the help.
        more: Further functions whose parameters but the first are flags as well (a corpus' options).

    Raises:
        UserError: If the arguments do not fit, or two functions have a parameter of one name.
    """
    summary = (function.__doc__ or "").strip().splitlines()[0]
    parser = CommandParser(
        prog=prog, description=summary, epilog=f"example: {example}", default_env=False, allow_abbrev=False
    )
    parser.add_function_arguments(function, as_positional=True, as_group=False)
    for options in more:
        first, *others = inspect.signature(options).parameters
        for name in set(others) & set(inspect.signature(function).parameters):
            raise UserError(f"option {name!r} of {options.__module__} is one of {prog} too", "give it another name")
        parser.add_function_arguments(options, as_group=False, skip={first})
    functions = (function, *more)
    return parser.parse_args(_as_lists(_spell_out(arguments, switches(functions)), _list_flags(functions)))


def switches(functions: Sequence[Callable[..., Any]]) -> set[str]:
    """The flags of functions that stand alone: their boolean parameters."""
    found = [p for f in functions for p in inspect.signature(f).parameters.values()]
    return {f"--{p.name}" for p in found if p.annotation in (bool, "bool")}


def _spell_out(arguments: Sequence[str], alone: set[str]) -> list[str]:
    """``--cropped`` -> ``--cropped=true``, which is how jsonargparse wants it."""
    words = list(arguments)
    for place, word in enumerate(words):
        told = place + 1 < len(words) and words[place + 1].lower() in ("true", "false")
        if word in alone and not told:
            words[place] = f"{word}=true"
    return words


def _list_flags(functions: Sequence[Callable[..., Any]]) -> set[str]:
    """The flags of functions that take several values: ``--methods a,b``."""
    found = [p for f in functions for p in inspect.signature(f).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {f"--{p.name}" for p in found if "list[" in str(p.annotation)}


def _as_lists(arguments: Sequence[str], several: set[str]) -> list[str]:
    """``--methods a,b`` -> ``--methods=["a", "b"]``, which is how jsonargparse wants it."""
    words: list[str] = []
    waiting = iter(arguments)
    for word in waiting:
        flag, equals, value = word.partition("=")
        if flag not in several:
            words.append(word)
            continue
        value = value if equals else next(waiting, "")
        words.append(f"{flag}={value if value.startswith('[') else json.dumps(value.split(','))}")
    return words
