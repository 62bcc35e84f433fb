"""A name given by the user -> the object: what lies outside the package is named by its import path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from dfdet.errors import UserError


def import_object(path: str, what: str) -> Any:
    """Imports ``package.module.Name`` or ``package.module``; the working directory counts as on the import path.

    Args:
        path: A dotted import path.
        what: What the user wanted by it, for the error: ``"detector"``.

    Raises:
        UserError: If nothing can be imported under that path, with Python's own reason.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # a module of that name exists but needs something absent, or the last part is a name within a module
        if error.name not in (path, module) and not path.startswith(f"{error.name}."):
            raise UserError(f"{what} {path!r} cannot be imported: {error}", "install what it needs") from error
    except Exception as error:
        raise UserError(f"{what} {path!r} cannot be imported: {type(error).__name__}: {error}") from error
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{what} {path!r} cannot be imported: {error}", "give a dotted path from here") from error
    except Exception as error:
        raise UserError(f"{what} {path!r} cannot be imported: {type(error).__name__}: {error}") from error
