"""The rule by which a face is cropped: a preset, and what a configuration changes in it."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dfdet.errors import UserError, nearest

_CHOICES: dict[str, tuple[str, ...]] = {
    "align": ("none", "similarity", "upright"),
    "pad": ("zero", "reflect"),
    "mode": ("resize", "native", "native_grid8"),
    "box": ("constant", "smoothed"),
}


@dataclass(frozen=True)
class CropSpec:
    """The rule that makes a crop of a face box.

    Attributes:
        scale: Side of the crop. Without alignment in face heights h; with ``similarity`` relative to ArcFace's crop,
            which is about 1.05 h; with ``upright`` relative to 2.2 x the larger of eye distance and eye-mouth distance.
        shift_y: How far the crop's centre lies below the box's centre, in face heights (+ is down).
        align: ``none``; ``similarity``: rotated and scaled onto ArcFace's template; ``upright``: MesoNet's rule,
            rotated until the mouth is below the eyes, centre at the nose tip. Both need landmarks and resample.
        pad: What stands where the crop leaves the frame: black, or the frame mirrored (which doubles noise residuals).
        mode: ``resize``: the square is resampled to ``size``; ``native``: a window of ``size`` pixels, not resampled;
            ``native_grid8``: one whose corner lies on the frame's grid of 8 x 8 pixels, that of JPEG's blocks.
        size: Side S of what comes out, pixels.
        box: ``constant``: one square a clip; ``smoothed``: a square of one side that follows the track's centre.
    """

    scale: float = 1.3
    shift_y: float = 0.0
    align: Literal["none", "similarity", "upright"] = "none"
    pad: Literal["zero", "reflect"] = "zero"
    mode: Literal["resize", "native", "native_grid8"] = "resize"
    size: int = 224
    box: Literal["constant", "smoothed"] = "constant"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"crop {name}={getattr(self, name)!r} is not known", nearest(str(getattr(self, name)), allowed)
                )
        if not self.scale > 0:
            raise UserError(f"crop scale={self.scale} is not above 0", "1.3 face heights is the default")
        if self.size < 1:
            raise UserError(f"crop size={self.size} is not a number of pixels", "224 is the default")
        if self.align != "none" and self.mode != "resize":
            raise UserError(
                f"crop align={self.align!r} resamples, mode={self.mode!r} does not", "choose one of the two"
            )
        if self.align != "none" and self.box == "smoothed":
            raise UserError(f"crop align={self.align!r} is one matrix a clip", "box='smoothed' needs align='none'")


# Where each rule comes from: reference faces.md §2.2. The size is the network's affair and no part of a preset.
PRESETS: dict[str, CropSpec] = {
    "default": CropSpec(),
    # FaceForensics++: dlib's square x 1.3
    "ffpp": CropSpec(scale=1.08, shift_y=0.06),
    # icpr2020dfdc: BlazeFace with margins, then the square of the longer side
    "icpr": CropSpec(scale=1.30, shift_y=0.02),
    # selimsef's DFDC winner: MTCNN plus a third on each side
    "selim": CropSpec(scale=1.63),
    "tight": CropSpec(scale=0.83, shift_y=0.06),
    # The bare square of dlib's frontal detector, what papers 000 and 003 cut; the same rule as "tight".
    "dlib": CropSpec(scale=0.83, shift_y=0.06),
    # MesoNet's pipeline.py. It centres between nose tip and bridge; five landmarks have no bridge: our choice, the tip.
    "mesonet": CropSpec(scale=1.3, align="upright", pad="reflect"),
}


def crop_spec(preset: str = "default", **overrides: Any) -> CropSpec:
    """A preset with some of its fields changed: ``crop_spec("ffpp", size=299)``.

    Args:
        preset: A key of :data:`PRESETS`.
        **overrides: Fields of :class:`CropSpec`.

    Raises:
        UserError: The preset or a field is not known, or a value does not fit.
    """
    if preset not in PRESETS:
        raise UserError(f"crop preset {preset!r} is not known", nearest(preset, PRESETS))
    fields = [field.name for field in dataclasses.fields(CropSpec)]
    for name in overrides:
        if name not in fields:
            raise UserError(f"crop has no setting {name!r}", nearest(name, fields))
    return dataclasses.replace(PRESETS[preset], **overrides)


@dataclass
class CropOptions:
    """How a face is cropped: a preset, and what to change in it.

    Attributes:
        preset: default, ffpp, icpr, selim, tight, mesonet or dlib.
        size: S, side of the crop that the network sees, pixels; None takes the detector's own.
        scale: Side of the square in units of the face box's height.
        shift_y: Shift of the square downwards, in the same units.
        align: none, similarity (five points to the ArcFace template) or upright (MesoNet's).
        pad: What lies outside the frame: zero or reflect.
        mode: resize the square to S, or take a native window of S pixels out of it; native_grid8 keeps its corner on
            the frame's grid of 8 pixels, so that JPEG's blocks stay whole.
        box: constant (one square a clip) or smoothed (follows the face).
    """

    preset: str = "default"
    size: int | None = None
    scale: float | None = None
    shift_y: float | None = None
    align: Literal["none", "similarity", "upright"] | None = None
    pad: Literal["zero", "reflect"] | None = None
    mode: Literal["resize", "native", "native_grid8"] | None = None
    box: Literal["constant", "smoothed"] | None = None

    def spec(self, size: int) -> CropSpec:
        """The crop at a size."""
        changes = {k: v for k, v in asdict(self).items() if k not in ("preset", "size") and v is not None}
        return crop_spec(self.preset, size=size, **changes)
