"""What can go wrong by the user's hand: one line that says what, where and what to do; exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend. Its text is one line and is all that the command prints.

    Args:
        what: What is wrong and where, without a full stop.
        hint: What to do about it, as a clause; printed after a semicolon.
    """

    exit_code = 2

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = " ".join(what.split())
        self.hint = " ".join(hint.split())
        super().__init__(f"{self.what}; {self.hint}" if self.hint else self.what)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """A clause with the closest known word, or the whole list where it is short: ``did you mean 'lr'?``.

    Args:
        word: What the user wrote.
        known: The words that would have been right.
        cutoff: How alike two words must be, 0..1 (difflib's ratio); higher for words that share a long ending.
    """
    choices = sorted(set(known))
    close = difflib.get_close_matches(word, choices, n=1, cutoff=cutoff)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(choices)}" if len(choices) <= 25 else ""
