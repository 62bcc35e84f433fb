"""Score files in, numbers out: metrics, intervals, summaries. numpy and pandas, never torch."""

from dfdet.evaluation.intervals import Interval, bootstrap, clusters
from dfdet.evaluation.levels import LEVELS, frame_level, video_level
from dfdet.evaluation.numbers import Numbers
from dfdet.evaluation.scores import Scores, as_scores, read_scores, write_scores
from dfdet.evaluation.summary import Summary, summarise, thresholds_from

__all__ = [
    "LEVELS",
    "Interval",
    "Numbers",
    "Scores",
    "Summary",
    "as_scores",
    "bootstrap",
    "clusters",
    "frame_level",
    "read_scores",
    "summarise",
    "thresholds_from",
    "video_level",
    "write_scores",
]
