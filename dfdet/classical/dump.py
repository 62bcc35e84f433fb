"""A fitted pipeline of scikit-learn in, the bytes of a skops file out, and back; nothing is unpickled.

skops names arrays by their address in memory and dates what it packs, and the nodes of trees have bytes between their
fields that nobody sets: here they are numbered, undated and zero, so that one model is the same bytes whenever made.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import skops.io
from sklearn.pipeline import Pipeline
from skops.io.exceptions import UntrustedTypesFoundException

from dfdet.errors import UserError

# Beside what skops itself trusts of numpy and scikit-learn: the classes that our estimators hold and it does not know.
# All three are arrays and numbers.
TRUSTED = (
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
)
_SCHEMA = "schema.json"
_NO_DATE = (1980, 1, 1, 0, 0, 0)


def dumps(estimator: Pipeline) -> bytes:
    """The bytes of a fitted pipeline."""
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    schema = json.loads(parts.pop(_SCHEMA))
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}
    _renumber(schema, numbers, names)
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as out:
        for old, new in names.items():
            out.writestr(_undated(new), _settled(parts[old]) if new.endswith(".npy") else parts[old])
        out.writestr(_undated(_SCHEMA), json.dumps(schema))
    return memory.getvalue()


def _undated(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _NO_DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _settled(part: bytes) -> bytes:
    """An array's file with zeros between the fields of its elements."""
    array = np.load(io.BytesIO(part), allow_pickle=False)
    if array.dtype.names is None:
        return part
    clean = np.zeros(array.shape, array.dtype)  # zeros_like sets the fields alone
    for name in array.dtype.names:
        clean[name] = array[name]
    memory = io.BytesIO()
    np.save(memory, clean, allow_pickle=False)
    return memory.getvalue()


def _renumber(node: Any, numbers: dict[int, int], names: dict[str, str]) -> None:
    """Numbers objects and files by the order in which they appear."""
    if isinstance(node, list):
        for one in node:
            _renumber(one, numbers, names)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == "__id__" and isinstance(value, int):
            node[key] = numbers.setdefault(value, len(numbers))
        elif key == "file" and isinstance(value, str):
            node[key] = names.setdefault(value, f"{len(names)}{PurePosixPath(value).suffix}")
        else:
            _renumber(value, numbers, names)


def loads(data: bytes, like: Pipeline, columns: int) -> Pipeline:
    """The pipeline in :func:`dumps`' bytes.

    Args:
        data: The bytes.
        like: A pipeline whose steps it must have, by class.
        columns: D that it must have been fitted on.

    Raises:
        UserError: They hold a type that is not trusted, are damaged, or hold another estimator.
    """
    try:
        found = skops.io.loads(data, trusted=list(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise UserError(
            f"the checkpoint's estimator is not loaded: {str(error).splitlines()[0]}",
            "only what our own classical detectors are made of is; train it again",
        ) from error
    except Exception as error:
        raise UserError(
            f"the checkpoint's estimator is damaged: {type(error).__name__}: {str(error)[:150]}",
            "take another checkpoint",
        ) from error
    if not isinstance(found, Pipeline) or _steps(found) != _steps(like):
        told = _steps(found) if isinstance(found, Pipeline) else [type(found).__name__]
        raise UserError(f"the checkpoint holds {' + '.join(told)}, not {' + '.join(_steps(like))}")
    if found.n_features_in_ != columns:
        raise UserError(f"the checkpoint's estimator was fitted on {found.n_features_in_} features, not {columns}")
    return found


def _steps(pipeline: Pipeline) -> list[str]:
    return [type(step).__name__ for _, step in pipeline.steps]
