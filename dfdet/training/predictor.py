"""Files in, a score for every person and every video out: a detector on what has no manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning import LightningModule

from dfdet import console, files, runs
from dfdet.data.loader import EvalLoader
from dfdet.data.module import VideoDataModule, default_workers
from dfdet.data.sources import Items
from dfdet.data.visits import VisitMaker
from dfdet.evaluation import as_scores, video_level
from dfdet.faces.detector import DetectorSettings, choose
from dfdet.runs import Run
from dfdet.training import published
from dfdet.training.checkpoint_io import load_into
from dfdet.training.looking import items_in, media_files
from dfdet.training.parser import DetectorCLI
from dfdet.training.scoring import ScoreRows, logits_of, score_table
from dfdet.training.setup import best_or_last, prepare

_VALIDATED = "the threshold of the run's validation"
_NOT_VALIDATED = "validation gave no threshold for this checkpoint"


@dataclass
class Prediction:
    """What a detector says of files.

    Attributes:
        videos: One row a file: path, verdict (fake, real or ""), logit, probability, people, status.
        people: One row a face track: path, person, first and last scored frame, clips, logit, probability.
        clips: The score table, one row a clip.
        threshold: The logit above which a file is called fake, from the run's validation; NaN where it has none.
        basis: Where the threshold comes from, or why there is none.
        remarks: What else is to be known of the scores.
    """

    videos: pd.DataFrame
    people: pd.DataFrame
    clips: pd.DataFrame
    threshold: float
    basis: str = ""
    remarks: list[str] = field(default_factory=list)

    def tables(self) -> list[console.Table]:
        """Both tables, for print."""
        found = []
        for title, frame in (("People", self.people), ("Files", self.videos)):
            table = console.Table(title, list(frame.columns))
            for row in frame.itertuples(index=False):
                table.add(*row)
            found.append(table)
        if self.threshold == self.threshold:
            told = f"called fake above logit {self.threshold:.3f}, {self.basis or _VALIDATED}"
        else:
            told = f"no verdicts: {self.basis or _NOT_VALIDATED}"
        found[-1].notes.append(f"{told}; the probability is the sigmoid of the logit and is not calibrated")
        found[-1].notes += self.remarks
        return found

    def write(self, path: Path) -> None:
        """Writes .csv (one row a file) or .json (files and people)."""
        if path.suffix == ".csv":
            files.write_text(path, self.videos.to_csv(index=False))
        else:
            people = self.people.to_dict("records")
            files.write_json(path, {"videos": self.videos.to_dict("records"), "people": people})


class Predictor:
    """A detector, ready to score files.

    Args:
        run: The run; None: of no run.
        model: The detector with its weights.
        data: The run's data module, for clip and crop.
        faces: The face settings that it was trained with.
        threshold: The logit above which a video is called fake; NaN: not known.
        name: What the detector is called in tables; "": as its run.
        basis: Where the threshold comes from, or why there is none; "": the run's validation.
        remarks: What else is to be known of its scores.
    """

    def __init__(
        self,
        run: Run | None,
        model: LightningModule,
        data: VideoDataModule,
        faces: dict[str, Any],
        threshold: float,
        name: str = "",
        basis: str = "",
        remarks: Sequence[str] = (),
    ) -> None:
        self.run, self.model, self.data, self.faces = run, model.eval(), data, faces
        self.threshold, self.basis, self.remarks = threshold, basis, list(remarks)
        self.name = name or (run.path.name if run is not None else type(model).__name__)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)

    @classmethod
    def from_run(cls, path: str | Path, checkpoint: str = "best") -> Predictor:
        """Opens a run; see ``dfdet.load``."""
        from dfdet.training import ensemble  # it opens each of its members here

        run = runs.open_run(path)
        if ensemble.recipe_of(run) is not None:
            return ensemble.EnsemblePredictor(run, checkpoint)
        cli = DetectorCLI(["--config", str(run.config)], filled=True)
        model, data = prepare(cli)
        chosen = best_or_last(run) if checkpoint == "best" else run.checkpoint(checkpoint)
        load_into(model, chosen)
        known = run.provenance().get("faces") or [{}]
        # another checkpoint's logits lie elsewhere: its threshold is not this one's
        thresholds = run.thresholds() if run.record().get("checkpoint") == chosen.name else None
        return cls(run, model, data, dict(known[0]), (thresholds or {}).get("video", float("nan")))

    @classmethod
    def from_weights(cls, source: str, model: str | None = None) -> Predictor:
        """A detector with published weights and no run; see :func:`dfdet.training.published.with_weights`."""
        detector, data, weights = published.with_weights(source, model)
        entry = weights.entry if weights.name is not None else None
        basis = "where its probability is one half: no validation of ours chose it"
        remarks = [f"{weights.name}: trained on {entry.corpus}, licence {entry.licence}"] if entry is not None else []
        return cls(None, detector, data, {}, 0.0, weights.name or Path(source).name, basis, remarks)

    @classmethod
    def untrained(cls, model: str) -> Predictor:
        """A detector with random weights, by its name or import path: for a look at the way, not at the scores."""
        detector, data = published.untrained(model)
        told = f"{model} is untrained: its weights are random, and its scores say nothing"
        return cls(None, detector, data, {}, float("nan"), model, "the weights are random", [told])

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
        found = media_files(paths)
        settings = None if cropped else self._settings(detector, detector_model)
        items = items_in(found, settings, {"name": "cropped" if cropped else detector}, progress)
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
        return Prediction(
            pd.DataFrame(rows, columns=columns),
            _people(scores.table),
            scores.table,
            threshold,
            self.basis,
            self.remarks,
        )


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
