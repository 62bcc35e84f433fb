"""``dfdet test``: a run in, the scores of every test video and the table of its numbers out."""

from __future__ import annotations

from collections.abc import Sequence

HELP = """dfdet test: score every test video with a run's best checkpoint

usage: dfdet test --run RUN [--data.test FILE] [--KEY VALUE ...]

  --run RUN             a run directory, as `dfdet fit` wrote it; its own configuration is used
  --checkpoint best     best, last, or the path of a checkpoint of the same detector
  --data.test FILE      another manifest to test on: one that was not trained on
  --data.num_workers 4  any other key of the configuration
  --json FILE           write the printed tables to this file too

The decision threshold comes from validation. Scores go to RUN/scores/<corpus>-test.parquet.

example: dfdet test --run runs/demo/srm_cnn"""


def main(arguments: Sequence[str], command: str = "test", text: str = HELP) -> None:
    """Short help without torch; else scores."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(text)
        return
    from dfdet.cli.flags import split
    from dfdet.errors import UserError

    ours, rest = split(arguments, ("--run", "--checkpoint", "--json"))
    if "--run" not in ours:
        raise UserError(f"dfdet {command} wants a run", f"dfdet {command} --run runs/EXPERIMENT/NAME")

    from dfdet import console
    from dfdet.data.module import Stage
    from dfdet.training.workflow import evaluate

    stage: Stage = "val" if command == "validate" else "test"
    result = evaluate(ours["--run"], stage, rest, ours.get("--checkpoint", "best"))
    console.show(*result.tables(), json_file=ours.get("--json"))
    for path in result.files:
        console.say(f"wrote {path}")
    if command == "test":
        console.say(f"next: dfdet predict VIDEO --run {result.run.path}")
