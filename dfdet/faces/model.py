"""Nothing or a path in, a checked YuNet model file out: given, found in the cache, or fetched once by URL."""

from __future__ import annotations

import os
from pathlib import Path

from dfdet import console, files
from dfdet.errors import UserError

FILE = "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
# the same weights with a symbolic input size; boxes are bit-equal
KNOWN = {SHA256: "2023mar", "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0": "2026may"}
# Byte-identical files. The first is opencv_zoo's behind Git LFS, the second is committed plainly by YuNet's author.
URLS = [
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/" + FILE,
    "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/master/onnx/yunet_s_640_640.onnx",
]
TIMEOUT = 30.0  # seconds for each connection and each silence


def cache() -> Path:
    """The user's cache directory: ``$DFDET_CACHE``, else the system's own place for caches."""
    import pooch

    return Path(os.environ.get("DFDET_CACHE") or pooch.os_cache("dfdet")).expanduser()


def cached() -> Path | None:
    """The model in the cache, or None where it is absent or is another file than the known one."""
    path = cache() / FILE
    return path if path.is_file() and files.sha256(path) == SHA256 else None


def checked(path: str | Path) -> Path:
    """A model file that the user gave; warns where it is none of the known ones.

    Raises:
        UserError: If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"--detector_model {path} does not exist", f"give the path of {FILE}")
    digest = files.sha256(path)
    if digest not in KNOWN:
        console.warn(f"{path} is none of the known YuNet models (SHA-256 {digest[:12]}...); its hash is recorded")
    return path


def fetched() -> Path:
    """The model in the cache, brought there first where it is absent. A file with a wrong hash leaves nothing.

    Raises:
        UserError: If no URL gives the file; it says what to fetch by hand and where to put it.
    """
    found = cached()
    if found is not None:
        return found
    import pooch

    pooch.get_logger().setLevel("ERROR")
    folder, reasons = cache(), []
    console.say(f"fetching YuNet's model ({FILE}, 0.2 MB) into {folder}")
    for url in URLS:
        download = pooch.HTTPDownloader(timeout=TIMEOUT)
        try:
            return Path(pooch.retrieve(url, SHA256, fname=FILE, path=folder, downloader=download))
        except ValueError:  # pooch has already thrown the file away
            reasons.append("wrong SHA-256")
        except OSError as error:  # no network, HTTP errors, a cache that cannot be written
            reasons.append(type(error).__name__)
    raise UserError(
        f"YuNet's model could not be fetched ({', '.join(reasons)})",
        f"fetch {URLS[0]} by hand and put it at {folder / FILE} or give it with --detector_model FILE, "
        "or use --detector dlib, which needs no model",
    )
