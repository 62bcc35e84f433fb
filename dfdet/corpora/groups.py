"""Rows of a corpus -> their ``group``, the unit of splitting: what shares a person, an original or an upload is one.

A group is a connected component over the keys of its rows: their content, the content of the original (also of one
that is absent), the identities of both people, the upload that they were cut from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Row = dict[str, Any]
Key = tuple[str, ...]

# The first element of a key ranks what a component is named by; an upload joins, and names nothing.
_GIVEN, _IDENTITY, _ORIGINAL, _CONTENT, _ORIGIN = "0 group", "1 identity", "2 original", "3 content", "4 origin"


def set_groups(rows: list[Row], content_of: Callable[[str], str]) -> None:
    """Fills ``group`` in place where it is null; a group that is given stays, and its rows join others to it.

    A component is named by what is best known of it: a given group, a person, an original, else the video itself;
    of several, the first in alphabetical order.

    Args:
        rows: With ``corpus``, ``video_id`` and ``content_id``, and whatever else is known.
        content_of: video_id of an original that is absent -> its content_id.
    """
    contents = {(row["corpus"], row["video_id"]): row["content_id"] for row in rows}
    components = _Components()
    for row in rows:
        own = _own(row)
        components.find(own)
        for key in _others(row, contents, content_of):
            components.join(own, key)
    names: dict[Key, Key] = {}
    for key in sorted(components.parents):
        if key[0] != _ORIGIN:
            names.setdefault(components.find(key), key)
    for row in rows:
        if row.get("group") is None:
            row["group"] = names[components.find(_own(row))][1]


class _Components:
    """Sets that are joined pair by pair (union-find)."""

    def __init__(self) -> None:
        self.parents: dict[Key, Key] = {}

    def find(self, key: Key) -> Key:
        self.parents.setdefault(key, key)
        while self.parents[key] != key:
            self.parents[key] = self.parents[self.parents[key]]
            key = self.parents[key]
        return key

    def join(self, a: Key, b: Key) -> None:
        self.parents[self.find(b)] = self.find(a)


def _own(row: Row) -> Key:
    return _CONTENT, row["content_id"], row["corpus"]


def _others(row: Row, contents: Mapping[tuple[str, str], str], content_of: Callable[[str], str]) -> Iterable[Key]:
    if row.get("group") is not None:
        yield _GIVEN, row["group"], row["corpus"]
    for column in ("identity", "source_identity"):
        if row.get(column) is not None:
            yield _IDENTITY, row[column]
    if row.get("origin") is not None:
        yield _ORIGIN, row["origin"]
    if row.get("original") is not None:
        corpus, content = _original(row, contents, content_of)
        yield _ORIGINAL, content, corpus
        yield _CONTENT, content, corpus


def _original(row: Row, contents: Mapping[tuple[str, str], str], content_of: Callable[[str], str]) -> tuple[str, str]:
    """Corpus and content_id of the original; ``corpus:video_id`` names one of another corpus."""
    corpus, original = row["corpus"], row["original"]
    if (corpus, original) in contents:
        return corpus, contents[corpus, original]
    elsewhere, colon, video_id = original.partition(":")
    if colon:
        return elsewhere, contents.get((elsewhere, video_id), video_id)
    return corpus, content_of(original)
