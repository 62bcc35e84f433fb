"""Files in, a score for every person and every video out: a run's detector on what has no manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from lightning import LightningModule

from dfdet import console, files, manifest, runs
from dfdet.corpora.rows import kind_of, walk, without_extension
from dfdet.data.loader import EvalLoader
from dfdet.data.module import VideoDataModule, default_workers
from dfdet.data.sources import Items
from dfdet.data.visits import VisitMaker
from dfdet.errors import UserError
from dfdet.evaluation import as_scores, video_level
from dfdet.faces.detector import DetectorSettings, choose
from dfdet.indexing.examine import Task, examine
from dfdet.indexing.index import tables
from dfdet.runs import Run
from dfdet.training.checkpoint_io import load_into
from dfdet.training.parser import DetectorCLI
from dfdet.training.scoring import ScoreRows, logits_of, score_table
from dfdet.training.setup import best_or_last, prepare


@dataclass
class Prediction:
    """What a detector says of files.

    Attributes:
        videos: One row a file: path, verdict (fake, real or ""), logit, probability, people, status.
        people: One row a face track: path, person, first and last scored frame, clips, logit, probability.
        clips: The score table, one row a clip.
        threshold: The logit above which a file is called fake, from the run's validation; NaN where it has none.
    """

    videos: pd.DataFrame
    people: pd.DataFrame
    clips: pd.DataFrame
    threshold: float

    def tables(self) -> list[console.Table]:
        """Both tables, for print."""
        found = []
        for title, frame in (("People", self.people), ("Files", self.videos)):
            table = console.Table(title, list(frame.columns))
            for row in frame.itertuples(index=False):
                table.add(*row)
            found.append(table)
        known = f"called fake above logit {self.threshold:.3f}, the threshold of the run's validation"
        unknown = "no verdicts: validation gave no threshold for this checkpoint"
        found[-1].notes.append(
            f"{known if self.threshold == self.threshold else unknown}; "
            "the probability is the sigmoid of the logit and is not calibrated"
        )
        return found

    def write(self, path: Path) -> None:
        """Writes .csv (one row a file) or .json (files and people)."""
        if path.suffix == ".csv":
            files.write_text(path, self.videos.to_csv(index=False))
        else:
            people = self.people.to_dict("records")
            files.write_json(path, {"videos": self.videos.to_dict("records"), "people": people})


class Predictor:
    """A run's detector, ready to score files.

    Args:
        run: The run.
        model: The detector with its weights.
        data: The run's data module, for clip and crop.
        faces: The face settings that it was trained with.
        threshold: The logit above which a video is called fake; NaN: not known.
    """

    def __init__(
        self, run: Run, model: LightningModule, data: VideoDataModule, faces: dict[str, Any], threshold: float
    ) -> None:
        self.run, self.model, self.data, self.faces = run, model.eval(), data, faces
        self.threshold = threshold
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)

    @classmethod
    def from_run(cls, path: str | Path, checkpoint: str = "best") -> Predictor:
        """Opens a run; see ``dfdet.load``."""
        run = runs.open_run(path)
        cli = DetectorCLI(["--config", str(run.config)])
        model, data = prepare(cli)
        chosen = best_or_last(run) if checkpoint == "best" else run.checkpoint(checkpoint)
        load_into(model, chosen)
        known = run.provenance().get("faces") or [{}]
        # another checkpoint's logits lie elsewhere: its threshold is not this one's
        thresholds = run.thresholds() if run.record().get("checkpoint") == chosen.name else None
        return cls(run, model, data, dict(known[0]), (thresholds or {}).get("video", float("nan")))

    def predict(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        detector: str = "run",
        detector_model: str | Path | None = None,
        cropped: bool = False,
        clips: int | None = None,
        progress: bool = False,
    ) -> Prediction:
        """Scores files and every video and image in folders.

        Args:
            paths: One or several.
            detector: ``run``: the face detector of the run's training; else auto, yunet or dlib.
            detector_model: YuNet's model file.
            cropped: The files are face crops already.
            clips: Clips a face track; None: as in the run's evaluation.
            progress: Show a bar.

        Raises:
            UserError: If a path does not exist or holds nothing to score, or the face detector is not to be had.
        """
        found = list(dict.fromkeys(_media_files([paths] if isinstance(paths, str | Path) else paths)))
        settings = None if cropped else self._settings(detector, detector_model)
        records = {}
        with console.Progress("looking for faces", len(found), every_seconds=10 if progress else float("inf")) as bar:
            for path in found:
                records[str(path)] = _look(Task(path, str(path), settings))
                bar.advance()
        items = _items(found, records, {"name": "cropped"} if cropped else {"name": detector})
        table = self._score(items, clips or self.data.eval_clips)
        return self._verdict(table, found)

    def _settings(self, detector: str, model: str | Path | None) -> DetectorSettings | None:
        if detector != "run":
            return choose(detector, model)
        name = self.faces.get("name", "auto")
        if name == "cropped":
            console.warn("the run was trained on crops; faces are looked for (say --cropped if these are crops)")
            name = "auto"
        settings = choose(name, model)
        same = {k: self.faces[k] for k in ("size", "stride") if k in self.faces}
        return replace(settings, **same)

    def _score(self, items: Items, clips: int) -> pd.DataFrame:
        data = self.data
        data.use(items, clips)
        maker: VisitMaker = data.maker("test")
        visits = data.eval_visits("test")
        rows = ScoreRows().begin()
        errors: dict[int, str] = {}
        workers = min(default_workers(), len(visits)) if len(visits) > 1 else 0
        with torch.inference_mode():
            for batch in EvalLoader(maker, visits, data.eval_batch_size, workers, False):
                logit = logits_of(self.model.predict_step(batch.to(self.device), 0), batch)
                rows.add(batch, logit.cpu())
                errors.update(batch.errors)
        return score_table(items, *rows.compute(), errors)

    def _verdict(self, table: pd.DataFrame, found: Sequence[Path]) -> Prediction:
        threshold = self.threshold
        scores = as_scores(table)
        videos = video_level(scores).set_index("video_id")
        statuses = scores.table.groupby("video_id")["status"].agg(lambda s: "ok" if (s == "ok").any() else s.iloc[0])
        rows = []
        for path in map(str, found):
            logit = float(videos["logit"][path])
            verdict = "" if logit != logit or threshold != threshold else "fake" if logit > threshold else "real"
            people = int(scores.table.loc[scores.table["video_id"] == path, "track"].nunique())
            rows.append((path, verdict, logit, _sigmoid(logit), people, statuses[path]))
        columns = ["path", "verdict", "logit", "probability", "people", "status"]
        return Prediction(pd.DataFrame(rows, columns=columns), _people(scores.table), scores.table, threshold)


def _sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def _people(table: pd.DataFrame) -> pd.DataFrame:
    """One row a face track."""
    scored = table[table["status"] == "ok"]
    rows = []
    for name, clips in scored.groupby(["video_id", "track"], sort=False):
        path, track = name if isinstance(name, tuple) else (name, 0)
        logit = float(clips["logit"].mean())
        note = "static picture" if bool(clips["static"].fillna(False).all()) else ""
        first, last = int(clips["frame"].min()), int((clips["frame"] + clips["num_frames"] - 1).max())
        rows.append((path, int(str(track)), first, last, len(clips), logit, _sigmoid(logit), note))
    columns = ["path", "person", "first frame", "last frame", "clips", "logit", "probability", "note"]
    return pd.DataFrame(rows, columns=columns)


def _media_files(paths: Iterable[str | Path]) -> Iterable[Path]:
    for given in map(Path, paths):
        if not given.exists():
            raise UserError(f"{given} does not exist")
        if given.is_dir():
            inside, _ = walk(given)
            if not inside:
                raise UserError(f"{given} holds no video and no image")
            yield from (given / name for name in inside)
        else:
            yield given


def _look(task: Task) -> dict[str, Any]:
    record, media = examine(task, lambda: None)
    # PyAV is right on every file that decodes; proving decord would cost more than it saves on one visit
    reader = "image" if media.kind == "image" else "pyav"
    record["row"] |= {"reader": reader, "reader_reason": "not indexed"}
    return record


def _items(found: Sequence[Path], records: dict[str, dict[str, Any]], faces: dict[str, Any]) -> Items:
    """Items of files that no manifest knows: the path is the id."""
    rows = pd.DataFrame(
        [{"corpus": "predict", "video_id": str(p), "path": str(p), "kind": kind_of(str(p)) or "video"} for p in found]
    )
    table, tracks = tables(rows, records)
    table["group"] = [without_extension(p) for p in table["path"]]
    arrow = pa.Table.from_pandas(
        table.reindex(columns=list(manifest.MANIFEST_COLUMNS)), schema=manifest.schema(), preserve_index=False
    )
    return Items(
        table=arrow,
        tracks=[manifest.tracks_of(tracks, {})],
        roots=[Path()],
        source=np.zeros(len(table), np.int64),
        label=np.full(len(table), -1, np.int8),
        num_frames=table["num_frames"].fillna(0).to_numpy(np.int64),
        main_track=np.array([-1 if v is None else v for v in arrow["main_track"].to_pylist()], np.int64),
        names=["predict"],
        weights=[None],
        faces=[faces],
    )
