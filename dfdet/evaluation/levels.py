"""Scores in, one table a level out: what was scored (``frame``), and one row a video (``video``).

A video is (corpus, video_id), never a file's stem: the same stem stands under every method of a corpus. Tracks that
are static (posters, pictures on a wall) are left out wherever a video has another one that was scored. Videos without
any score keep a row without a logit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfdet.errors import UserError, nearest
from dfdet.evaluation.metrics import Floats
from dfdet.evaluation.scores import OK, ROW, VIDEO, Scores

LEVELS = ("frame", "video")
_EDGE = 1e-6  # shares of 0 and 1 have no logit; no video has a million clips, so no order is lost
_FRAME = [*ROW, "label", "method", "group", "logit", "status", "rows"]
_VIDEO = [*VIDEO, "label", "method", "group", "logit", "num_clips", "num_tracks", "status"]


def _share(logits: Floats) -> float:
    """The logit of the share of clips above probability .5, kept within (1e-6, 1 - 1e-6)."""
    share = float(np.clip(np.mean(logits > 0), _EDGE, 1 - _EDGE))
    return float(np.log(share) - np.log1p(-share))


def _mean_probability(logits: Floats) -> float:
    """The logit of the mean probability; finite where sigmoids would round to 1."""
    fake, real = -np.logaddexp(0.0, -logits), -np.logaddexp(0.0, logits)
    return float(np.logaddexp.reduce(fake) - np.logaddexp.reduce(real))


OVER_CLIPS: dict[str, Callable[[Floats], float]] = {
    "mean": lambda logits: float(np.mean(logits)),
    "median": lambda logits: float(np.median(logits)),
    "share": _share,
    "mean_probability": _mean_probability,
}
OVER_TRACKS: dict[str, Callable[[Floats], float]] = {
    "max": lambda logits: float(np.max(logits)),
    "mean": lambda logits: float(np.mean(logits)),
    "median": lambda logits: float(np.median(logits)),
}


def frame_level(scores: Scores) -> pd.DataFrame:
    """The rows of the score file that count: scored clips or frames, and what could not be scored.

    A row that says of a whole video that it was not scored stands for as many rows as the median scored video has
    (``rows``), so that a lost video weighs as much here as any other; all others stand for one.

    Returns:
        Columns corpus, video_id, track, clip, frame, label (Int8), method, group, logit (NaN: not scored), status,
        rows; sorted by corpus, video, track, clip, frame.
    """
    table = scores.table[_counts(scores.table)].sort_values(ROW, kind="stable", ignore_index=True)
    scored = table["logit"].notna()
    sizes = table[scored].groupby(VIDEO, sort=False).size()
    typical = max(1, round(float(sizes.median()))) if len(sizes) else 1
    found = pd.MultiIndex.from_frame(table[VIDEO]).isin(sizes.index)
    whole = ~found & table["clip"].isna() & table["frame"].isna()
    return _labelled(table.assign(rows=np.where(whole, typical, 1)))[_FRAME]


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Label, method and group of a video in all of its rows, also where only one of them knows."""
    known = table.groupby(VIDEO, sort=False)[["label", "method", "group"]].transform("first")
    return table.assign(**{column: known[column] for column in known.columns})


def _counts(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """(N,) whether a row counts: not of a static track, or of a video that has no other scored track."""
    static = table["static"].fillna(False).astype(bool)
    static = static.groupby([table[c] for c in (*VIDEO, "track")], dropna=False, sort=False).transform("any")
    moving = (~static & table["logit"].notna()).groupby([table[c] for c in VIDEO], sort=False).transform("any")
    return (~static | ~moving).to_numpy(bool)


def video_level(scores: Scores, over_clips: str = "mean", over_tracks: str = "max") -> pd.DataFrame:
    """One row a video: the logits of a track's clips are put together, then those of its tracks.

    Args:
        scores: As read.
        over_clips: ``mean`` or ``median`` of the logits, ``share`` of clips above probability .5 or
            ``mean_probability``; the last two are given as logits again, so that 0 stays the middle.
        over_tracks: ``max``, ``mean`` or ``median`` of the tracks' logits.

    Returns:
        Columns corpus, video_id, label (Int8), method, group, logit (NaN: no clip was scored), num_clips and num_tracks
        that the logit rests on, status (``ok``, or why there is none); sorted by corpus and video.

    Raises:
        UserError: If an option is not known.
    """
    clips, tracks = _choice("over_clips", over_clips, OVER_CLIPS), _choice("over_tracks", over_tracks, OVER_TRACKS)
    table = scores.table[_counts(scores.table)].sort_values([*ROW, "status"], kind="stable", ignore_index=True)
    scored = table[table["logit"].notna()]
    by_track = _together(scored, [*VIDEO, "track"], clips)
    by_video = _together(by_track, VIDEO, tracks)
    videos = table.groupby(VIDEO, sort=True)[["label", "method", "group"]].first()
    videos["logit"] = by_video.set_index(VIDEO)["logit"]
    for column, rows in (("num_clips", scored), ("num_tracks", by_track)):
        videos[column] = rows.groupby(VIDEO).size().reindex(videos.index, fill_value=0)
    reasons = table[table["logit"].isna()].groupby(VIDEO)["status"].first().reindex(videos.index)
    videos["status"] = reasons.mask(videos["logit"].notna(), OK)
    return videos.reset_index()[_VIDEO]


def _choice(option: str, word: str, known: dict[str, Callable[[Floats], float]]) -> Callable[[Floats], float]:
    if word not in known:
        raise UserError(f"{option} has no {word!r}", nearest(word, known))
    return known[word]


def _together(rows: pd.DataFrame, keys: list[str], rule: Callable[[Floats], float]) -> pd.DataFrame:
    """One row for each distinct ``keys`` of ``rows`` (sorted by them), its logit the rule's value of theirs."""
    first = ~rows.duplicated(keys).to_numpy(bool)
    parts = np.split(rows["logit"].to_numpy(np.float64), np.flatnonzero(first)[1:])
    values = [rule(part) for part in parts if len(part)]
    return rows.loc[first, keys].assign(logit=np.asarray(values, dtype=np.float64))
