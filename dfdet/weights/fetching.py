"""A URL goes in, a file lies on disk: with a bar, going on where it was cut, and never a page in a file's place.

What has come so far stays in ``<file>.part``, its ETag or date beside it, so that a later call asks for the rest alone
(RFC 9110: Range with If-Range) and starts anew where the file has changed meanwhile.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from dfdet import console
from dfdet.weights.reading import WeightsError, kind_of

TIMEOUT = 30.0  # seconds for each connection and each silence
ATTEMPTS = 3  # that bring something new, or not, before the user is told
_PIECE = 1 << 18
_MB = 1_000_000


def fetch(url: str, target: Path, by_hand: str, hashed: bool = False) -> Path:
    """Downloads a file; one that was cut is gone on with.

    Args:
        url: http or https.
        target: Where it goes. Its directory is made where it is absent.
        by_hand: What the user can do without a network, as a clause.
        hashed: The caller knows the file's hash: then a cut file is gone on with even where the server tells nothing
            by which a changed one would be known.

    Raises:
        WeightsError: The server cannot be reached, refuses, sends a page, or cuts the file again and again.
    """
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            if _more(url, part, hashed):
                break
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise WeightsError(f"{url} answers {error.code} {error.reason}", by_hand) from error
            forget(part)  # more is here than there: what lies here is of another file
            reason = "the file has changed"
        except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            reason = _reason(error)
            if not part.exists():
                break
    else:
        done = part.stat().st_size / _MB if part.exists() else 0.0
        again = f"the same command goes on after {done:.1f} MB; or {by_hand}"
        raise WeightsError(f"{url} could not be fetched whole: {reason}", again)
    if not part.exists():
        raise WeightsError(f"{url} cannot be reached ({reason})", by_hand)
    if (kind := kind_of(part)) in ("HTML", "LFS", "empty"):
        forget(part)
        raise WeightsError(f"{url} gives {'nothing' if kind == 'empty' else f'{kind}, not the file'}", by_hand)
    part.replace(target)
    forget(part)
    return target


def forget(part: Path) -> None:
    """Drops what has come so far."""
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(inner).split()) or type(inner).__name__


def _more(url: str, part: Path, hashed: bool) -> bool:
    """Appends what is lacking; whether the file is whole now."""
    if not url.startswith(("http://", "https://")):
        raise WeightsError(f"{url} is no http or https URL")
    tag = _tag(part).read_text() if _tag(part).is_file() else ""
    # without a tag or a hash nobody can say that the rest belongs to what is here
    have = part.stat().st_size if part.exists() and (tag or hashed) else 0
    headers = {"User-Agent": "dfdet"} | ({"Range": f"bytes={have}-"} if have else {})
    if have and tag:
        headers["If-Range"] = tag
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was looked at
    opener = urllib.request.build_opener()  # the proxies of now: urlopen keeps those of its first call
    with opener.open(request, timeout=TIMEOUT) as answer:
        goes_on = answer.status == http.client.PARTIAL_CONTENT and have > 0
        have = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        _tag(part).write_text(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        whole = _pour(answer, part, have, total)
    return whole and part.stat().st_size >= total


def _pour(answer: Any, part: Path, have: int, total: int) -> bool:
    """Writes an answer's body behind the ``have`` bytes that are there; False where it is known to have been cut."""
    name = part.name.removesuffix(".part")
    with part.open("ab" if have else "wb") as out, console.Progress(f"fetching {name}, MB", -(-total // _MB)) as bar:
        bar.advance(have // _MB)
        whole = True
        while whole:
            try:
                piece = answer.read(_PIECE)
            except http.client.IncompleteRead as error:  # what came before the cut is good
                piece, whole = error.partial, False
            if not piece:
                break
            before = out.tell() // _MB
            try:
                out.write(piece)
            except OSError as error:  # a full disk is reported without a name
                error.filename = str(part)
                raise
            bar.advance(out.tell() // _MB - before)
        if total and out.tell() == total:
            bar.advance(-(-total // _MB) - out.tell() // _MB)
    return whole
