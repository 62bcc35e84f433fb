"""A visit's request in, the clips that it wants out: their frames and their crops; nothing is read here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dfdet import seeds
from dfdet.data import clips as clip_choice
from dfdet.data.clips import ClipSpec, Run
from dfdet.data.crop import CropPlan, plan
from dfdet.data.crop_rule import CropSpec
from dfdet.data.sources import MEDIA, Items
from dfdet.faces.dense import DenseTrack, dense
from dfdet.video import Media, ReadError


@dataclass(frozen=True)
class TrainVisit:
    """One visit of training: its items (two: a fake and its real), its name in the epoch, the clips wanted of it.

    ``lap`` is how often these items were visited before: it goes through a pool of clips.
    """

    items: tuple[int, ...]
    number: int
    epoch: int
    clips: tuple[int, ...]
    lap: int = 0


@dataclass(frozen=True)
class EvalVisit:
    """One visit of evaluation: (track, clip number, frames) for each clip of one item; no frames: none can be used."""

    item: int
    clips: tuple[tuple[int, int, tuple[int, ...]], ...]


Visit = TrainVisit | EvalVisit


@dataclass(frozen=True)
class Wanted:
    """One clip to make.

    Attributes:
        item: Which video.
        track: Which face.
        clip: Its number within the visit.
        frames: int (t,), t at most T.
        crop: Where each frame is cut.
        draw: The random key of its augmentation; None: none.
    """

    item: int
    track: int
    clip: int
    frames: np.ndarray
    crop: CropPlan
    draw: int | None

    def key(self, sha256: str) -> bytes:
        """16 bytes that stand for the clip's pixels: which file, which frames, cut where and how.

        Args:
            sha256: The file's hash in the index.
        """
        spec, matrix = self.crop.spec, self.crop.matrix
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{sha256} {spec.pad} {spec.size} {self.crop.frame_width}x{self.crop.frame_height}".encode())
        digest.update(self.frames.astype("<i8").tobytes())
        digest.update((self.crop.squares if matrix is None else matrix).tobytes())
        return digest.digest()


def clips_in(visit: Visit) -> int:
    """How many clips a visit gives."""
    return len(visit.clips) * (len(visit.items) if isinstance(visit, TrainVisit) else 1)


def tracks_of(items: Items, item: int, num_frames: int) -> dict[int, DenseTrack]:
    """The dense tracks of one item by number."""
    tracker = items.faces[int(items.source[item])].get("tracker") or {}
    gap = int(tracker.get("max_gap", 10))
    return {t: dense(rows, num_frames, max_gap=gap) for t, rows in items.tracks_of(item).items()}


def usable_runs(track: DenseTrack, media: Media) -> list[Run]:
    """The frames of a track that may be used: a box near enough, and decoded without an error."""
    runs = clip_choice.runs_of(track.usable, track.start)
    return clip_choice.intersect(runs, media.usable_runs())


class Chooser:
    """Decides what visits want; a pure function of its arguments.

    Args:
        items: The videos.
        clip: The shape of a clip.
        crop: How a face is cropped.
        seed: The run's seed.
        clips_per_visit: Clips that a training visit yields.
        clip_pool: Training clips are drawn from that many fixed ones a track; None: from anywhere in it.
    """

    def __init__(
        self, items: Items, clip: ClipSpec, crop: CropSpec, seed: int, clips_per_visit: int, clip_pool: int | None
    ) -> None:
        self.items, self.clip, self.crop = items, clip, crop
        self.seed, self.clips_per_visit, self.clip_pool = seed, clips_per_visit, clip_pool
        self._keys: dict[tuple[int, ...], list[bytes]] = {}

    def media(self, item: int) -> Media:
        """What the index says about a file."""
        return Media.from_row(self.items.row(item, MEDIA))

    def evaluation(self, visit: EvalVisit) -> list[Wanted]:
        """What a visit of evaluation wants.

        Raises:
            ReadError: No frame can be used.
            ValueError: The boxes are none.
        """
        media = self.media(visit.item)
        tracks = tracks_of(self.items, visit.item, media.num_frames)
        wanted = []
        for number, clip, chosen in visit.clips:
            if not chosen:
                raise ReadError(self.items.path(visit.item), f"no frame of track {number} can be used")
            frames = np.array(chosen)
            crop = self._plan(visit.item, tracks[number], frames, media, (0.5, 0.5))
            wanted.append(Wanted(visit.item, number, clip, frames, crop, None))
        return wanted

    def training(self, visit: TrainVisit, item: int) -> list[Wanted]:
        """What a visit of training wants of one of its items; raises as :meth:`evaluation` does."""
        media = self.media(item)
        number = int(self.items.main_track[item])
        track, runs, keyframes = self._where(visit, item, media)
        if not runs:
            raise ReadError(self.items.path(item), f"no frame of track {number} can be used")
        if self.clip_pool is None:
            rng = seeds.generator(self.seed, visit.epoch, f"visit{visit.number}", "frames")
            chosen = clip_choice.draw(self.clip, runs, keyframes, self.clips_per_visit, rng)
        else:
            places = clip_choice.fixed(self.clip, runs, self.clip_pool)
            chosen = [places[place] for place in self._turn(visit, len(places))]
        wanted = []
        for clip in visit.clips:
            window = self._window(visit, clip, chosen[clip])
            crop = self._plan(item, track, chosen[clip], media, window)
            wanted.append(Wanted(item, number, clip, chosen[clip], crop, self.draw_of(visit, clip)))
        return wanted

    def draw_of(self, visit: TrainVisit, clip: int) -> int:
        """The random key of the augmentation of a clip."""
        return seeds.key(self.seed, visit.epoch, f"visit{visit.number}:clip{clip}", "augment")

    def training_keys(self, visit: TrainVisit, item: int) -> list[bytes] | None:
        """What :meth:`training` would want, by keys alone, which are remembered; None where clips have no pool."""
        sha256 = self.items.sha256(item)
        if self.clip_pool is None or sha256 is None:
            return None
        name = (*visit.items, item)
        if name not in self._keys:
            media = self.media(item)
            track, runs, _ = self._where(visit, item, media)
            number = int(self.items.main_track[item])
            self._keys[name] = []
            for frames in clip_choice.fixed(self.clip, runs, self.clip_pool) if runs else []:
                crop = self._plan(item, track, frames, media, self._window(visit, 0, frames))
                self._keys[name].append(Wanted(item, number, 0, frames, crop, None).key(sha256))
        keys = self._keys[name]
        turn = self._turn(visit, len(keys)) if keys else []
        return [keys[turn[clip]] for clip in visit.clips] if keys else None

    def evaluation_keys(self, visit: EvalVisit) -> list[bytes] | None:
        """What :meth:`evaluation` would want, by keys alone, which are remembered; None where the file has no hash."""
        sha256 = self.items.sha256(visit.item)
        if sha256 is None:
            return None
        if (visit.item,) not in self._keys:
            self._keys[(visit.item,)] = [wanted.key(sha256) for wanted in self.evaluation(visit)]
        return self._keys[(visit.item,)]

    def _turn(self, visit: TrainVisit, places: int) -> list[int]:
        """Which clips of a pool of ``places`` this visit takes, in its order."""

        def order_of(number: int) -> np.random.Generator:
            return seeds.generator(self.seed, number, self._name(visit.items[0]), "pool")

        taken = clip_choice.turn(places, self.clips_per_visit, visit.lap, order_of)
        rng = seeds.generator(self.seed, visit.epoch, f"visit{visit.number}", "frames")
        return [taken[j] for j in rng.permutation(len(taken))]

    def _window(self, visit: TrainVisit, clip: int, frames: np.ndarray) -> tuple[float, float]:
        """Where a native window lies: drawn anew each time, but for a clip of a pool once and for all runs."""
        if self.clip_pool is None:
            rng = seeds.generator(self.seed, visit.epoch, f"visit{visit.number}:clip{clip}", "window")
        else:
            rng = seeds.generator(0, 0, f"{self._name(visit.items[0])}:{frames[0]}", "window")
        across, down = rng.random(2)
        return float(across), float(down)

    def _name(self, item: int) -> str:
        table = self.items.table
        return f"{table['corpus'][item].as_py()}/{table['video_id'][item].as_py()}"

    def _where(self, visit: TrainVisit, item: int, media: Media) -> tuple[DenseTrack, list[Run], Sequence[int]]:
        """The track to follow, its usable runs, and the keyframes.

        Of a pair both take the frames that both have, and the keyframes of the real one, so that one draw gives both
        the same frames; where the two files agree in size and length, the fake is cropped by the track of the real one.
        """
        own = self._main_track(item, media)
        runs = usable_runs(own, media)
        if len(visit.items) == 1:
            return own, runs, media.keyframes
        fake, real = visit.items
        other = real if item == fake else fake
        theirs = self.media(other)
        track = self._main_track(other, theirs)
        common = clip_choice.intersect(runs, usable_runs(track, theirs))
        if not common:
            return own, runs, media.keyframes
        shapes = [(m.width, m.height, m.num_frames) for m in (media, theirs)]
        if item == real:
            return own, common, media.keyframes
        return (track if shapes[0] == shapes[1] else own), common, theirs.keyframes

    def _main_track(self, item: int, media: Media) -> DenseTrack:
        number = int(self.items.main_track[item])
        tracks = tracks_of(self.items, item, media.num_frames)
        if number not in tracks:
            raise ReadError(self.items.path(item), f"the tracks table holds no track {number} of it; index it again")
        return tracks[number]

    def _plan(
        self, item: int, track: DenseTrack, frames: np.ndarray, media: Media, window: tuple[float, float]
    ) -> CropPlan:
        where = frames - track.start
        # a track without points among others that have them is cropped by its boxes
        points = np.full((len(where), 5, 2), np.nan) if track.points is None else track.points[where]
        boxes = track.cx[where], track.cy[where], track.h[where]
        return plan(self._crop_of(item), *boxes, points, media.width or 0, media.height or 0, window)

    def _crop_of(self, item: int) -> CropSpec:
        """The crop rule; an image that is a face crop already (``--cropped``) is taken as it is."""
        if self.items.faces[int(self.items.source[item])].get("name") != "cropped":
            return self.crop
        return replace(self.crop, scale=1.0, shift_y=0.0, align="none")
