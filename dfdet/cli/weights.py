"""``dfdet weights``: published weights: which there are, fetch one by name, take in a file that was downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dfdet.cli.overview import overview

PARTS: dict[str, str] = {
    "list": "the published weights that are known, and those that are here already",
    "get": "fetch one by its name, check it, convert it into the cache",
    "import": "convert a file that you downloaded, into the cache",
}
EXAMPLE = "dfdet weights get xception.deepfakebench   then: dfdet predict VIDEO --weights xception.deepfakebench"


def usage() -> str:
    """The help of ``dfdet weights`` itself."""
    return overview("dfdet weights", "published weights", "PART", PARTS, EXAMPLE)


def show_list(name: str | None = None, json: Path | None = None) -> None:
    """Lists the published weights; with a name, everything that is known of one.

    Args:
        name: One of them.
        json: Write every column to this file too.
    """
    from dfdet import console, files
    from dfdet.weights.listing import facts, one, overview_of

    if name is not None:
        console.show(one(name), json_file=json)
        return
    if json is not None:
        files.write_json(json, [facts().as_dict()])
    console.show(*overview_of())


def get(name: str, json: Path | None = None) -> None:
    """Fetches published weights into the cache; a download that was cut goes on.

    Args:
        name: As dfdet weights list has it; or hf:owner/name for a .safetensors file of a hub.
        json: Write the printed table to this file too.
    """
    from dfdet import console
    from dfdet.weights import cache, hubs
    from dfdet.weights.getting import get as fetched
    from dfdet.weights.listing import one

    if name.startswith((hubs.HF, hubs.WANDB)):
        from dfdet.weights.checkpoints import find

        console.say(f"{name} is at {find(name)[0]}")
        return
    there = cache.kept(name) is not None
    with console.interruptible("run the same command again: the download goes on"):
        path = fetched(name)
    console.say(f"{name} {'was here already' if there else 'is here now'}: {path}")
    console.show(one(name), json_file=json)


def take_in(file: Path, name: str | None = None, layout: str | None = None, json: Path | None = None) -> None:
    """Converts a file of published weights that you downloaded; nothing in it is ever unpickled.

    Args:
        file: As its authors publish it: .pth, .pt, .h5 or .safetensors.
        name: Which weights it is, as dfdet weights list has it; its hash must be theirs.
        layout: How its keys are spelt, where they do not tell; dfdet weights list names the layouts.
        json: Write the printed table to this file too.
    """
    from dfdet import console
    from dfdet.weights.getting import take_in as converted
    from dfdet.weights.listing import taken

    path = converted(file, name, layout)
    console.show(taken(path.stem), json_file=json)
    console.say(f"wrote {path}")


def main(arguments: Sequence[str]) -> None:
    """Runs one part."""
    given = list(arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage())
        return
    from dfdet.cli.command import parse
    from dfdet.errors import UserError, nearest

    part, rest = given[0], given[1:]
    if part not in PARTS:
        raise UserError(f"dfdet weights has no part {part!r}", nearest(part, PARTS))
    if part == "list" and rest and not rest[0].startswith("-"):
        rest = ["--name", *rest]
    examples = {
        "list": "dfdet weights list",
        "get": "dfdet weights get xception.deepfakebench",
        "import": "dfdet weights import xception_best.pth --name xception.deepfakebench",
    }
    functions: dict[str, Callable[..., Any]] = {"list": show_list, "get": get, "import": take_in}
    function = functions[part]
    function(**parse(f"dfdet weights {part}", function, rest, examples[part]).as_dict())
