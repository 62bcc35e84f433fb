"""The ``dfdet`` command: finds the command's file, runs it, and prints a user's mistake as one line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from dfdet.cli.overview import overview

COMMANDS: dict[str, tuple[str, str]] = {
    "index": ("dfdet.cli.index", "released files -> a manifest and the face tracks of every video"),
    "check": ("dfdet.cli.check", "what a manifest holds, and what looks wrong in it"),
    "demo": ("dfdet.cli.demo", "make a corpus of rendered heads, and go the whole way on it"),
    "fit": ("dfdet.cli.fit", "train a detector, or go on with a run"),
    "validate": ("dfdet.cli.validate", "score the validation videos of a run"),
    "test": ("dfdet.cli.test", "score the test videos of a run, or another corpus"),
    "predict": ("dfdet.cli.predict", "score any video, image or folder with a run's detector"),
    "explain": ("dfdet.cli.explain", "heat-maps, contact sheets and films of what a score hangs on"),
    "ensemble": ("dfdet.cli.ensemble", "make one run of several, which answers with their mean"),
    "export": ("dfdet.cli.export", "write a run's detector as ONNX"),
    "models": ("dfdet.cli.models", "the detectors that --model knows by name"),
    "weights": ("dfdet.cli.weights", "published weights: list them, fetch one, take in a file that you downloaded"),
    "runs": ("dfdet.cli.runs", "the runs there are, and how far they came"),
    "store": ("dfdet.cli.store", "crops that were decoded once: fill a store, look into it, check it, export crops"),
    "bench": ("dfdet.cli.bench", "how fast this machine decodes, indexes and trains, and each detector, beside others"),
    "doctor": ("dfdet.cli.doctor", "what this machine can do, and what to do about what is missing"),
}


def usage() -> str:
    """The help of ``dfdet`` itself."""
    return overview(
        "dfdet",
        "train and judge detectors of face-manipulated video, straight from the released files",
        "COMMAND",
        {name: text for name, (_, text) in COMMANDS.items()},
        "dfdet demo demo --run   makes a corpus, indexes it, trains on it and tests, in a few minutes",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0, 1 where the disk fails, 2 for a user's mistake, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if given[0] in ("-V", "--version"):
        import dfdet

        print(f"dfdet {dfdet.__version__}")
        return 0
    from dfdet.errors import UserError, nearest

    try:
        if given[0] not in COMMANDS:
            raise UserError(f"there is no command {given[0]!r}", nearest(given[0], COMMANDS))
        import_module(COMMANDS[given[0]][0]).main(given[1:])
        if arguments is None:  # all is done: Ctrl-C shall not disturb python as it ends its children and tidies up
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except UserError as error:
        print(f"dfdet: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `dfdet ... | head`
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a folder that may not be written
        if error.errno is None or error.filename is None:
            raise
        print(f"dfdet: error: {error.filename}: {os.strerror(error.errno)}", file=sys.stderr)
        return 1
    return 0
