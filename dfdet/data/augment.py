"""A clip uint8 (T, H, W, 3) and a key go in; the altered clip, of the same shape and type, comes out.

The only file that knows albumentations (2.0.8, the last MIT release: no longer developed, so that a successor can take
its place here). One draw holds for all frames of a clip, and it is a function of the key alone: not of the worker, the
rank, the order or what was drawn before.

A preset is a list of dicts, ``{class: <albumentations class>, <argument>: <value>, ...}``; the user's own has the same
form, so that the presets below are its examples. What only changes the size or the type (PadIfNeeded, Resize,
Normalize) is the crop's and the device's work and is no part of a preset.
"""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dfdet.errors import UserError, nearest

Clip = npt.NDArray[np.uint8]
Step = Mapping[str, Any]

_HALF = {"downscale": cv2.INTER_NEAREST, "upscale": cv2.INTER_NEAREST}
_LINEAR = {"downscale": cv2.INTER_LINEAR, "upscale": cv2.INTER_LINEAR}


def _blur(kernel: int) -> Step:
    """GaussianBlur as it was when the recipe was written: sigma follows from the kernel (OpenCV's rule)."""
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    return {"class": "GaussianBlur", "blur_limit": (kernel, kernel), "sigma_limit": (sigma, sigma)}


PRESETS: dict[str, Sequence[Step]] = {
    "none": [],
    "flip": [{"class": "HorizontalFlip", "p": 0.5}],
    # MesoNet (Afchar et al. 2018, sec. 3): "zoom, rotation, horizontal flips, brightness and hue changes". Silent about
    # every amount, therefore ours. Zoom and rotation are one resampling; both never show an edge.
    "mesonet": [
        {
            "class": "Affine",
            "scale": (0.9, 1.1),
            "keep_ratio": True,
            "rotate": (-10, 10),
            "border_mode": cv2.BORDER_REFLECT_101,
            "p": 1.0,
        },
        {"class": "HorizontalFlip", "p": 0.5},
        {"class": "RandomBrightnessContrast", "brightness_limit": 0.1, "contrast_limit": 0.0, "p": 0.5},
        {
            "class": "HueSaturationValue",
            "hue_shift_limit": 10,
            "sat_shift_limit": 0,
            "val_shift_limit": 0,
            "p": 0.5,
        },
    ],
    # icpr2020dfdc, isplutils (Bonettini et al. 2020, sec. IV), in the spelling of albumentations 2.0.8.
    "icpr": [
        {"class": "Downscale", "scale_range": (0.5, 0.5), "interpolation_pair": _HALF, "p": 0.5},
        {"class": "HorizontalFlip", "p": 0.5},
        {
            "class": "OneOf",
            "p": 0.5,
            "transforms": [
                {"class": "RandomBrightnessContrast", "brightness_limit": 0.2, "contrast_limit": 0.2},
                {"class": "HueSaturationValue", "hue_shift_limit": 10, "sat_shift_limit": 30, "val_shift_limit": 20},
            ],
        },
        {
            "class": "OneOf",
            "p": 0.5,
            "transforms": [
                {"class": "ISONoise"},
                {"class": "GaussNoise", "std_range": (0.01, 0.03), "per_channel": False},
            ],
        },
        {"class": "Downscale", "scale_range": (0.7, 0.9), "interpolation_pair": _LINEAR, "p": 0.5},
        {"class": "ImageCompression", "quality_range": (50, 99), "p": 0.5},
    ],
    # DeepfakeBench's training yaml for all but Xception, Meso4, MesoInception and SRM (Yan et al. 2023).
    "deepfakebench": [
        {"class": "HorizontalFlip", "p": 0.5},
        {"class": "Rotate", "limit": (-10, 10), "border_mode": cv2.BORDER_REFLECT_101, "p": 0.5},
        {"class": "OneOf", "p": 0.5, "transforms": [_blur(3), _blur(5), _blur(7)]},
        {
            "class": "OneOf",
            "p": 0.5,
            "transforms": [
                {"class": "RandomBrightnessContrast", "brightness_limit": 0.1, "contrast_limit": 0.1},
                {"class": "FancyPCA"},
                {"class": "HueSaturationValue"},
            ],
        },
        {"class": "ImageCompression", "quality_range": (40, 100), "p": 0.5},
    ],
}

_GROUPS = ("OneOf", "SomeOf", "Sequential", "RandomOrder")
_NOISE = ("GaussNoise", "ISONoise", "ShotNoise")


class Augment:
    """Alters clips for training; picklable, and albumentations is loaded only where it is first used.

    Args:
        preset: A key of :data:`PRESETS`, None for ``none``, or a list of dicts as in this file's first lines.
        per_frame_noise: False: GaussNoise, ISONoise and ShotNoise lay the same field of noise over every frame, as
            albumentations does. True: the amount is drawn once, the field anew for every frame, as a sensor does it; a
            field that stands still is a temporal artefact which a sequence model can learn.

    Raises:
        UserError: A preset, class or argument is not known, or albumentations refuses a value.
    """

    def __init__(self, preset: str | Sequence[Step] | None = "none", per_frame_noise: bool = False) -> None:
        self.preset = preset
        self.per_frame_noise = per_frame_noise
        self._compose: Any = None
        if isinstance(preset, str) and preset not in PRESETS:
            raise UserError(f"augmentation preset {preset!r} is not known", nearest(preset, PRESETS))
        self.steps: list[Step] = list(PRESETS[preset] if isinstance(preset, str) else preset or [])
        if not isinstance(preset, str) and self.steps:
            # A user's own list is built at once: its mistakes belong to the start of a run, not to a worker.
            self._compose = _build(self.steps, per_frame_noise)

    def __call__(self, clip: Clip, rng_key: int) -> Clip:
        """The clip as this key alters it.

        Args:
            clip: uint8 (T, H, W, 3), RGB.
            rng_key: From :func:`dfdet.seeds.key`; all of its bits count.

        Returns:
            uint8 (T, H, W, 3), C-contiguous; the clip itself where there is nothing to do.
        """
        if not self.steps:
            return clip
        if self._compose is None:
            self._compose = _build(self.steps, self.per_frame_noise)
        # Not set_random_seed(): it gives each transform a generator of its own from the one seed, so that their first
        # draws are equal and all steps with p=0.5 happen together or not at all. This is one stream for all of them.
        self._compose.set_random_state(np.random.default_rng(rng_key), random.Random(rng_key))
        out = self._compose(images=clip)["images"]
        if not isinstance(out, np.ndarray) or out.shape != clip.shape or out.dtype != np.uint8:
            raise UserError(
                f"the augmentation turns uint8 {clip.shape} into {getattr(out, 'dtype', type(out).__name__)} "
                f"{tuple(getattr(out, 'shape', ()))}",
                "leave out steps that change the size or the type; crop and network do that",
            )
        return np.ascontiguousarray(out)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compose": None}

    def __repr__(self) -> str:
        return f"Augment({self.preset!r}, per_frame_noise={self.per_frame_noise})"


def _albumentations() -> Any:
    # Read at import: without it albumentations asks PyPI for its newest version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _build(steps: Sequence[Step], per_frame_noise: bool) -> Any:
    library = _albumentations()
    return library.Compose([_transform(library, step, per_frame_noise) for step in steps])


def _transform(library: Any, step: Step, per_frame_noise: bool) -> Any:
    if not isinstance(step, Mapping) or "class" not in step:
        raise UserError(f"augmentation step {step!r} has no class", "write {class: HorizontalFlip, p: 0.5}")
    arguments = {name: value for name, value in step.items() if name != "class"}
    kind = _class(library, str(step["class"]))
    parameters = inspect.signature(kind.__init__).parameters
    for name in arguments:
        if name not in parameters or name == "self":
            known = [known for known in parameters if known != "self"]
            raise UserError(f"augmentation {step['class']} has no argument {name!r}", nearest(name, known))
    if step["class"] in _GROUPS:
        inner = [_transform(library, each, per_frame_noise) for each in arguments.get("transforms") or []]
        if not inner:
            raise UserError(f"augmentation {step['class']} has no transforms", "give it a list of steps")
        arguments["transforms"] = inner
    elif per_frame_noise and step["class"] in _NOISE:
        kind = type(kind.__name__, (kind,), {"apply_to_images": _fresh_noise})
    elif step["class"] == "HorizontalFlip":
        kind = type(kind.__name__, (kind,), {"apply_to_images": _flipped})
    try:
        # YAML knows no tuples, and albumentations takes no lists for its ranges.
        return kind(**{name: tuple(v) if _is_range(v) else v for name, v in arguments.items()})
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"augmentation {step['class']}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The first complaint of pydantic's four lines, with the argument that it is about; any other error's own text."""
    lines = [line.strip() for line in str(error).splitlines()]
    if len(lines) > 2 and "validation error" in lines[0]:
        return f"{lines[1]}: {lines[2].split(' [type=')[0]}"
    return lines[0] if lines and lines[0] else "albumentations cannot make it"


def _class(library: Any, name: str) -> Any:
    known = [*_GROUPS]
    for each, value in vars(library).items():
        if inspect.isclass(value) and issubclass(value, library.BasicTransform) and not inspect.isabstract(value):
            known.append(each)
    if name not in known:
        raise UserError(f"albumentations has no transform {name!r}", nearest(name, known))
    return getattr(library, name)


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, int | float) for each in value)


def _flipped(self: Any, images: Clip, *args: Any, **params: Any) -> Clip:
    """Stands for ``apply_to_images`` of HorizontalFlip, which takes ten times as long over a view with a stride."""
    rows = cv2.flip(images.reshape(-1, *images.shape[2:]), 1)
    return np.asarray(rows.reshape(images.shape), dtype=np.uint8)


def _fresh_noise(self: Any, images: Clip, *args: Any, **params: Any) -> Clip:
    """Stands for ``apply_to_images`` of a noise transform: the drawn amount on every frame, its field drawn anew."""
    frames = [self.apply(images[0], **params)]
    for image in images[1:]:
        fresh = dict(params)
        if "random_seed" in params:
            fresh["random_seed"] = int(self.random_generator.integers(0, 2**32 - 1))
        else:
            # Pixels of the drawn field are independent of each other: a permutation of them is a new field.
            field = params["noise_map"]
            pixels = field.reshape(field.shape[0] * field.shape[1], -1)
            fresh["noise_map"] = pixels[self.random_generator.permutation(len(pixels))].reshape(field.shape)
        frames.append(self.apply(image, **fresh))
    return np.stack(frames)
