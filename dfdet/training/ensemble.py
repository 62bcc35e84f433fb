"""Finished runs in, one run out that answers with their mean: its test and predict score every member in its own way.

Each member keeps its own crop, clip and normalisation; what is put together are scores: the members' logits of a frame,
then the video's as everywhere (Bonettini et al., ICPR 2020, and its code: reference specs.md §f.4). Where members see
different frames (T differs), a track's mean stands in the frame's place.

The directory: config.yaml (the key ``ensemble``), thresholds.json and scores/ as in any run, and members/NAME/, runs
of their own whose checkpoints are hard links, so that they outlive the runs that they were taken from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from scipy.special import logsumexp

from dfdet import console, files, runs
from dfdet.data.module import Stage
from dfdet.errors import UserError
from dfdet.evaluation import Scores, Summary, as_scores, read_scores, summarise, thresholds_from, write_scores
from dfdet.evaluation.scores import OK, VIDEO
from dfdet.runs import Run
from dfdet.training import workflow
from dfdet.training.predictor import Prediction, Predictor
from dfdet.training.setup import best_or_last

Combine = Literal["logits", "probabilities"]
CLIP = [*VIDEO, "track", "clip"]
CHECKPOINT = "members"  # what an ensemble's records say where others name a checkpoint


@dataclass(frozen=True)
class Recipe:
    """What an ensemble is made of.

    Attributes:
        members: The names of the directories below members/.
        weights: One a member; their sum is 1.
        combine: Whether logits or probabilities are averaged; of both a logit comes out.
    """

    members: list[str]
    weights: list[float]
    combine: Combine


def recipe_of(run: Run) -> Recipe | None:
    """What an ensemble's directory says, or None for the run of a single detector."""
    text = run.config.read_text(encoding="utf-8")
    if not text.startswith("ensemble:"):
        return None
    return Recipe(**yaml.safe_load(text)["ensemble"])


# Making one ---------------------------------------------------------------------------------------------------------


def create(
    members: Sequence[str | Path], out: Path, combine: Combine = "logits", weights: Sequence[float] | None = None
) -> workflow.Result:
    """Makes an ensemble's directory; its threshold comes from the members' validation.

    Args:
        members: Run directories.
        out: The new one, ``runs/<experiment>/<name>``; never overwritten.
        combine: Average ``logits`` or ``probabilities``.
        weights: One a member, above 0, of any sum; None: all alike.

    Raises:
        UserError: If there are fewer than two, one is an ensemble or has no checkpoint, weights do not fit, or the
            members were validated on different videos.
    """
    opened = [runs.open_run(path) for path in members]
    recipe = Recipe(_names(opened), _shares(len(opened), weights), combine)
    for run in opened:
        if recipe_of(run) is not None:
            raise UserError(f"{run.path} is an ensemble", "name its members")
        best_or_last(run)  # refuses a run that has saved nothing
    made = runs.create(out.parent.parent, out.parent.name, out.name)
    try:
        (made.path / "checkpoints").rmdir()
        for name, run in zip(recipe.members, opened, strict=True):
            _take_in(run, made.path / "members" / name)
        sources = {name: str(run.path) for name, run in zip(recipe.members, opened, strict=True)}
        files.write_json(made.path / "provenance.json", runs.provenance([]) | {"members": sources})
        files.write_text(made.config, yaml.safe_dump({"ensemble": asdict(recipe)}, sort_keys=False))
        return evaluate(made, "val", fresh=False)
    except (UserError, SystemExit, KeyboardInterrupt):
        shutil.rmtree(made.path)
        raise


def _names(opened: Sequence[Run]) -> list[str]:
    names: list[str] = []
    for run in opened:
        stem, number = run.path.resolve().name, 1
        while (name := stem if number == 1 else f"{stem}-{number}") in names:
            number += 1
        names.append(name)
    return names


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    if count < 2:
        raise UserError("an ensemble wants at least two runs", "dfdet ensemble RUN RUN --out runs/EXPERIMENT/NAME")
    given = [1.0] * count if weights is None else [float(w) for w in weights]
    if len(given) != count:
        raise UserError(f"{len(given)} weights are given for {count} runs", "give one for each, in their order")
    if not all(0 < w < float("inf") for w in given):
        raise UserError(f"the weights {', '.join(map(str, given))} are not all above 0", "leave a run out instead")
    return [w / sum(given) for w in given]


def _take_in(run: Run, home: Path) -> None:
    """A member: the run's configuration and records, its best checkpoint, and its scores of validation."""
    member = Run(home)
    (home / "checkpoints").mkdir(parents=True)
    chosen = best_or_last(run)
    shutil.copyfile(run.config, member.config)
    files.write_json(home / "provenance.json", run.provenance())
    target = member.checkpoints / "best.ckpt"
    try:
        os.link(chosen, target)
    except OSError:  # another disk
        shutil.copyfile(chosen, target)
    record = run.record()
    if record.get("checkpoint") == chosen.name:
        files.write_json(member.thresholds_file, record | {"checkpoint": target.name})
    digest = files.sha256(chosen)
    known = set(run.provenance().get("manifests") or {})
    for path in sorted((run.path / "scores").glob("*-val.parquet")):
        meta = read_scores(path).meta
        # scores of another checkpoint, or of a manifest that was named later, are not this run's validation
        if meta.get("checkpoint_sha256") == digest and set(meta.get("manifest") or {}) <= known:
            (home / "scores").mkdir(exist_ok=True)
            shutil.copyfile(path, home / "scores" / path.name)


# Putting scores together --------------------------------------------------------------------------------------------


def join(tables: Sequence[pd.DataFrame], recipe: Recipe, same_faces: bool = True) -> tuple[pd.DataFrame, str]:
    """The members' score tables of one set of videos as one.

    Args:
        tables: One a member, of the same videos; columns as in a score file.
        recipe: How they are averaged.
        same_faces: Whether track k is the same face for all of them.

    Returns:
        The table, and the level at which it was averaged: ``clip`` where all members scored the same frames, else
        ``track``, or ``video`` where faces were found by different detectors. A row that one member could not score
        has no logit and says why.

    Raises:
        UserError: If the members scored different videos.
    """
    sets = [set(zip(t["corpus"], t["video_id"], strict=True)) for t in tables]
    for name, found in zip(recipe.members[1:], sets[1:], strict=True):
        if odd := found ^ sets[0]:
            corpus, video = min(odd)
            raise UserError(
                f"{recipe.members[0]} and {name} scored different videos ({len(odd)}, as {corpus}/{video})",
                "an ensemble wants the same manifest for all members",
            )
    keyed = [_filled(t) for t in tables]
    if same_faces and all(_same_clips(keyed[0], t) for t in keyed[1:]):
        return _averaged(keyed, CLIP, recipe), "clip"
    level = [*VIDEO, "track"] if same_faces else VIDEO
    return _averaged([_means(t, level) for t in keyed], CLIP, recipe), "track" if same_faces else "video"


def _filled(table: pd.DataFrame) -> pd.DataFrame:
    """Rows that name no clip (a video without a face) get track and clip -1, to be joined by."""
    return table.assign(**{c: table[c].astype("Int64").fillna(-1).astype(np.int64) for c in ("track", "clip")})


def _same_clips(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    both = one.merge(other, on=CLIP, how="outer", suffixes=("", "_"), indicator=True)
    if (both["_merge"] != "both").any():
        return False
    scored = both["logit"].notna() & both["logit_"].notna()
    alike = (both["frame"] == both["frame_"]) & (both["num_frames"] == both["num_frames_"])
    return bool(alike[scored].all())


def _means(table: pd.DataFrame, level: list[str]) -> pd.DataFrame:
    """One row for each ``level``: the mean of its clips; of a video the highest of its tracks', as everywhere."""
    rows = table.assign(scored=table["logit"].notna()).sort_values([*CLIP, "frame"], kind="stable")
    by_track = rows.groupby([*VIDEO, "track"], sort=True, as_index=False).agg(
        {c: "first" for c in rows.columns if c not in (*VIDEO, "track", "logit", "status", "scored")}
        | {"logit": "mean", "status": "first", "scored": "any"}
    )
    if level == VIDEO:
        by_track = by_track.sort_values([*VIDEO, "logit"], ascending=[True, True, False], na_position="last")
        by_track = by_track.groupby(VIDEO, sort=True, as_index=False).head(1)
        by_track["track"] = np.where(by_track["scored"], 0, -1)
    by_track["clip"] = np.where(by_track["scored"], 0, -1)
    by_track["status"] = by_track["status"].mask(by_track["scored"], OK)
    return by_track.drop(columns="scored")


def _averaged(tables: Sequence[pd.DataFrame], keys: list[str], recipe: Recipe) -> pd.DataFrame:
    merged = tables[0]
    for number, table in enumerate(tables[1:], 1):
        other = table[[*keys, "logit", "status"]]
        merged = merged.merge(other, on=keys, how="outer", suffixes=("", f"_{number}"))
    columns = ["", *(f"_{n}" for n in range(1, len(tables)))]
    logits = merged[[f"logit{c}" for c in columns]].to_numpy(np.float64, na_value=np.nan)
    merged = _described(merged, tables)
    whole = np.isfinite(logits).all(1)
    merged["logit"] = np.where(whole, _mean(logits, recipe), np.nan)
    statuses = merged[[f"status{c}" for c in columns]].fillna("not scored").to_numpy(str)
    why = [next((s for s in row if s != OK), OK) for row in statuses]
    merged["status"] = np.where(whole, OK, why)
    # a video's row without a clip stands only where no clip of it was scored
    scored = merged.groupby(VIDEO)["logit"].transform(lambda values: values.notna().any())
    merged = merged[~(scored & (merged["clip"] == -1))]
    merged = merged.drop(columns=[f"{c}{n}" for n in columns[1:] for c in ("logit", "status")])
    return merged.assign(**{c: merged[c].astype("Int64").mask(merged[c] == -1) for c in ("track", "clip")}).reset_index(
        drop=True
    )


def _described(merged: pd.DataFrame, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Fills what belongs to a video (label, split, ...) in rows that the first member does not have."""
    about = ["label", "split", "method", "compression", "group"]
    known = pd.concat(tables).groupby(VIDEO)[[c for c in about if c in merged]].first()
    facts = known.reindex(pd.MultiIndex.from_frame(merged[VIDEO]))
    for column in known.columns:
        merged[column] = facts[column].to_numpy()
    return merged


def _mean(logits: np.ndarray, recipe: Recipe) -> np.ndarray:
    """(N, members) -> (N,), a logit."""
    share = np.asarray(recipe.weights)
    if recipe.combine == "logits":
        return np.asarray(logits @ share)
    fake, real = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    return np.asarray(logsumexp(fake, axis=1, b=share) - logsumexp(real, axis=1, b=share))


# The commands -------------------------------------------------------------------------------------------------------


def evaluate(
    run: Run, stage: Stage, arguments: Sequence[str] = (), checkpoint: str = "best", fresh: bool = True
) -> workflow.Result:
    """Scores every member and writes the ensemble's score files.

    Args:
        run: The ensemble.
        stage: ``val`` or ``test``.
        arguments: Keys that beat every member's configuration: ``--data.test other.parquet``.
        checkpoint: ``best`` alone: of each member there is one.
        fresh: Score anew; False takes what a member's directory holds of validation.

    Raises:
        UserError: As :func:`dfdet.training.workflow.evaluate` for each member; or their videos differ.
    """
    recipe = recipe_of(run)
    assert recipe is not None
    _check(checkpoint)
    thresholds = run.thresholds()
    if stage == "test" and thresholds is None:
        evaluate(run, "val", fresh=False)
        thresholds = run.thresholds()
    scored = [_scores(Run(run.path / "members" / name), stage, arguments, fresh) for name in recipe.members]
    for name, found in zip(recipe.members[1:], scored[1:], strict=True):
        if odd := set(found) ^ set(scored[0]):
            raise UserError(f"{recipe.members[0]} and {name} were scored on different corpora ({min(odd)})")
    joined = {c: join([f[c].table for f in scored], recipe) for c in sorted(scored[0])}
    stamps = list(dict.fromkeys(s for found in scored for scores in found.values() for s in scores.stamps))
    if stage == "val":
        thresholds = thresholds_from(as_scores(pd.concat([table for table, _ in joined.values()])))
        if not arguments:
            record = {"thresholds": thresholds, "checkpoint": CHECKPOINT, "stamps": stamps}
            files.write_json(run.thresholds_file, record)
    summaries: dict[str, Summary] = {}
    written: list[Path] = []
    for corpus, (table, level) in joined.items():
        metas = {n: found[corpus].meta for n, found in zip(recipe.members, scored, strict=True)}
        meta: dict[str, Any] = {
            "run": str(run.path),
            "checkpoint": CHECKPOINT,
            "checkpoint_sha256": {n: m.get("checkpoint_sha256") for n, m in metas.items()},
            "thresholds": thresholds or {},
            "manifest": {k: v for m in metas.values() for k, v in (m.get("manifest") or {}).items()},
            "stamps": stamps,
            "ensemble": asdict(recipe) | {"averaged": level},
        }
        path = run.scores(corpus, stage)
        summaries[f"{corpus} {stage}"] = summarise(write_scores(path, table, meta))
        written.append(path)
        console.say(f"{corpus}: {len(recipe.members)} members averaged by {level}")
    return workflow.Result(run, summaries, written)


def _check(checkpoint: str) -> None:
    if checkpoint != "best":
        raise UserError(f"an ensemble has no checkpoint {checkpoint!r}", "it holds the best one of each member")


def _scores(member: Run, stage: Stage, arguments: Sequence[str], fresh: bool) -> dict[str, Scores]:
    """A member's scores by corpus."""
    there = sorted((member.path / "scores").glob(f"*-{stage}.parquet"))
    if fresh or not there:
        console.say(f"scoring {member.path.name}")
        there = workflow.evaluate(str(member.path), stage, arguments).files
    found = [read_scores(path) for path in there]
    return {str(scores.table["corpus"].iloc[0]): scores for scores in found}


def refuse_ensemble(predictor: Predictor, lacks: str) -> None:
    """For what a single detector alone can do.

    Raises:
        UserError: If the predictor is an ensemble's.
    """
    if isinstance(predictor, EnsemblePredictor):
        members = ", ".join(str(member.run.path) for member in predictor.members if member.run is not None)
        raise UserError(f"an ensemble has {lacks}", f"name one of its members: {members}")


class EnsemblePredictor(Predictor):
    """Scores files with every member and averages.

    Args:
        run: The ensemble.
        checkpoint: ``best`` alone.
    """

    def __init__(self, run: Run, checkpoint: str = "best") -> None:
        _check(checkpoint)
        recipe = recipe_of(run)
        assert recipe is not None
        self.recipe = recipe
        self.members = [Predictor.from_run(run.path / "members" / name) for name in recipe.members]
        first = self.members[0]
        super().__init__(run, first.model, first.data, first.faces, (run.thresholds() or {}).get("video", float("nan")))

    def predict(self, paths: Any, **options: Any) -> Prediction:
        """As :meth:`Predictor.predict`; each member looks for faces as it was trained to."""
        found = [member.predict(paths, **options) for member in self.members]
        cropped = bool(options.get("cropped"))
        insisted = options.get("detector", "run") != "run"
        same = cropped or insisted or all(m.faces == self.members[0].faces for m in self.members)
        table, _ = join([one.clips for one in found], self.recipe, same)
        return self._verdict(table, [Path(p) for p in found[0].videos["path"]])
