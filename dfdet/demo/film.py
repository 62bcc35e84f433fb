"""A planned footage in; its H.264 files out: the real video and, frame by frame beside it, the forged one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from dfdet import files, seeds
from dfdet.demo import motion
from dfdet.demo.forge import Forger
from dfdet.demo.head import Array, Pose, draw_identity
from dfdet.demo.motion import FPS, Stage
from dfdet.demo.plan import Footage, Settings, Video
from dfdet.demo.render import Head, Light
from dfdet.demo.scene import Actor, Camera, Shot, background


@dataclass(frozen=True)
class Take:
    """A shot, and which of its actors a forgery alters (None: nobody)."""

    shot: Shot
    altered: int | None = 0


def shoot(footage: Footage, settings: Settings) -> list[Take]:
    """The takes of a footage, to be shown one after the other."""
    studio = _Studio(footage, settings)
    target, donor, frames = footage.target, footage.donor, settings.frames
    if target is None or donor is None:
        return [Take(Shot(studio.room("a"), (), frames), None)]
    if footage.case == "two_heads":
        left, right = studio.stage(0.29, 0.8), studio.stage(0.72, 0.78)
        return [studio.take("a", frames, (target, studio.move("left", left)), (donor, studio.move("right", right)))]
    if footage.case == "late_head":
        late = motion.entering(studio.move("a", studio.stage()), 0.4, settings.width)
        return [studio.take("a", frames, (target, late))]
    if footage.case == "poster":
        take = studio.take("a", frames, (target, studio.move("a", studio.stage(0.66, 0.95))))
        return [replace(take, shot=replace(take.shot, background=studio.with_poster(take.shot.background, donor)))]
    if footage.case == "hard_cut":
        first = frames // 2
        return [
            studio.take("a", first, (target, studio.move("a", studio.stage(0.40), first))),
            studio.take("b", frames - first, (target, studio.move("b", studio.stage(0.60, 0.85), frames - first))),
        ]
    return [studio.take("a", frames, (target, studio.move("a", studio.stage())))]


class _Studio:
    """Rooms, lights, heads and motions of one footage, all drawn from its name."""

    def __init__(self, footage: Footage, settings: Settings) -> None:
        self._item, self._settings = footage.item, settings
        self._rng = seeds.generator(settings.seed, 0, footage.item, "studio")

    def stage(self, x: float | None = None, size: float = 1.0) -> Stage:
        """A place near the middle (or at the share ``x`` of the width), where a head is about 60 % of the height."""
        across = self._rng.uniform(0.40, 0.60) if x is None else x
        height = self._settings.height
        scale = height * self._rng.uniform(0.195, 0.235) * size
        return Stage(self._settings.width * across, height * self._rng.uniform(0.44, 0.50), scale)

    def move(self, part: str, stage: Stage, frames: int | None = None) -> list[Pose]:
        """Poses about a stage."""
        return motion.poses(self._settings.seed, f"{self._item}/{part}", frames or self._settings.frames, stage)

    def room(self, part: str) -> Array:
        """A background."""
        size = (self._settings.width, self._settings.height)
        return background(self._settings.seed, f"{self._item}/{part}", size)

    def with_poster(self, room: Array, who: str) -> Array:
        """The room with a framed picture of somebody on its left; a head of 80 pixels at a height of 240."""
        width, height = self._settings.width, self._settings.height
        left, right, top, bottom = round(0.03 * width), round(0.32 * width), round(0.06 * height), round(0.66 * height)
        poster = self.room("poster")
        pose = Pose((left + right) / 2, 0.30 * height, 0.125 * height, yaw=0.1)
        self._actor(who, [pose], self._light()).lay(poster, 0)
        hung = room.copy()
        hung[top - 3 : bottom + 3, left - 3 : right + 3] = 40
        hung[top:bottom, left:right] = poster[top:bottom, left:right]
        return hung

    def take(self, part: str, frames: int, *cast: tuple[str, list[Pose]]) -> Take:
        """A take in one room under one light with a cast of (identity, poses)."""
        light = self._light()
        actors = tuple(self._actor(who, poses, light) for who, poses in cast)
        return Take(Shot(self.room(part), actors, frames))

    def _light(self) -> Light:
        warmth = self._rng.uniform(-0.07, 0.07)
        exposure = self._rng.uniform(0.82, 1.12)
        direction = (self._rng.uniform(-0.7, 0.7), self._rng.uniform(-0.7, -0.2), 0.85)
        ambient = self._rng.uniform(0.32, 0.46)
        return Light(direction, ambient * exposure, (0.97 - ambient) * exposure, (1 + warmth, 1.0, 1 - warmth))

    def _actor(self, who: str, poses: list[Pose], light: Light) -> Actor:
        seed = self._settings.seed
        head = Head(draw_identity(seed, who), seed, max(pose.scale for pose in poses))
        return Actor(head, light, poses, seed)


def produce(folder: Path, footage: Footage, settings: Settings) -> list[str]:
    """Renders a footage and writes those of its videos that are not there yet.

    Returns:
        The paths (relative to ``folder``) of the videos that were written.
    """
    missing = [video for video in footage.videos if not (folder / video.path).exists()]
    if not missing:
        return []
    with ExitStack() as stack:
        size = (settings.width, settings.height)
        write = {v: stack.enter_context(_encoder(folder / v.path, size, footage.crf)) for v in missing}
        for real, fake in render(footage, settings):
            for video, frame in ((footage.real, real), (footage.fake, fake)):
                if video in write and frame is not None:
                    write[video](frame)
    return [video.path for video in missing]


def render(footage: Footage, settings: Settings) -> Iterator[tuple[Array, Array | None]]:
    """The frames of a footage before compression: (real, forged or None), float32 (H, W, 3), RGB 0..255."""
    rng = seeds.generator(settings.seed, 0, footage.item, "camera")
    camera = Camera(float(rng.uniform(3.0, 5.0)), rng)
    for take in shoot(footage, settings):
        forge = _forgery(footage.fake, take, footage, settings, camera.noise)
        for index in range(take.shot.frames):
            clean = take.shot.frame(index)
            real = camera.expose(clean, camera.field(clean.shape))
            yield real, forge(real, index) if forge else None


def _forgery(
    video: Video | None, take: Take, footage: Footage, settings: Settings, noise: float
) -> Callable[[Array, int], Array] | None:
    if video is None or take.altered is None or footage.donor is None:
        return None
    actor = take.shot.actors[take.altered]
    rng = seeds.generator(settings.seed, 0, footage.item, "forgery")
    camera = Camera(noise, rng)
    if video.method == "reenact":
        mouths = motion.other_mouth(settings.seed, footage.item, list(actor.poses))
        forger = Forger(actor.head, actor.light, camera, settings.strength, rng)
        return lambda frame, index: forger.reenact(frame, actor.poses[index], mouths[index])
    donor = Head(draw_identity(settings.seed, footage.donor), settings.seed, max(p.scale for p in actor.poses))
    swapper = Forger(donor, actor.light, camera, settings.strength, rng)
    return lambda frame, index: swapper.swap(frame, actor.poses[index])


@contextmanager
def _encoder(path: Path, size: tuple[int, int], crf: int) -> Iterator[Callable[[Array], None]]:
    """Opens an MP4 file (H.264, yuv420p) that takes its name when all frames are in; yields what takes a frame."""
    # x264's bytes depend on the number of threads; and its macroblock tree gives other bytes from run to run even with
    # one (measured: 3 outcomes in 5 encodings of the same frames by PyAV 18.1, 1 in 15 without it).
    options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
    with files.replacing(path) as draft, av.open(str(draft), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"

        def write(frame: Array) -> None:
            picture = np.rint(np.clip(frame, 0, 255)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))

        yield write
        container.mux(stream.encode())
