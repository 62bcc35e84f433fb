"""``dfdet fit``: a configuration in, a trained detector with its validation scores out."""

from __future__ import annotations

from collections.abc import Sequence

HELP = """dfdet fit: train a detector, or go on with a run

usage: dfdet fit --config FILE [--config FILE ...] [--KEY VALUE ...]
       dfdet fit --resume RUN

  --config FILE         a configuration; later ones and flags beat earlier ones
  --model NAME          a detector of `dfdet models`, or an import path: my_lab.MyDetector
  --model.lr 3e-4       any key of the detector
  --data.train FILE     the manifest to train on (its own val and test splits are used)
  --data.batch_size 32  any key of the data
  --trainer.max_epochs  any key of Lightning's Trainer
  --experiment, --name  where the run goes: runs/<experiment>/<name>
  --patience 5          stop after so many epochs without a better one
  --wandb.project NAME  log to Weights & Biases as well (WANDB_MODE=offline keeps it here)
  --seed_everything 0   the seed of all draws
  --init_from SOURCE    start from weights: a run, a file, a name of `dfdet weights list`, hf:owner/name,
                        wandb:entity/project/name:alias; what fits is taken, and a table says what did not
  --resume RUN          go on with an interrupted run, inside its epoch
  --json FILE           write the printed tables to this file too
  --print_config        the complete configuration, and stop
  --help_all            every key

example: dfdet fit --config configs/experiment/srm_cnn.yaml --data.train ffpp.parquet --model.lr 3e-4

with --init_from goes what of the network is trained (tune: of timm's networks):
  --model.freeze_to blocks.3   all layers up to this one stay as they are
  --model.tune head            a linear probe; norm or lora: next to nothing of the network
  --model.layer_decay 0.75     a smaller learning rate the nearer a layer is to the input
--model.pretrained is then left out: the weights come from there.

example: dfdet fit --model xception --model.statistics half --model.size 256 --model.tune head
         --init_from xception.deepfakebench --data.train mine.parquet"""


def main(arguments: Sequence[str]) -> None:
    """Short help without torch; else trains."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(HELP)
        return
    from dfdet.cli.flags import split

    ours, rest = split(arguments, ("--resume", "--json", "--init_from"))
    if "--help_all" in arguments:
        from dfdet.training.parser import help_all

        print(help_all())
        return

    from dfdet import console, files
    from dfdet.training.workflow import fit

    result = fit(rest, resume=ours.get("--resume"), init_from=ours.get("--init_from"))
    onward = f"next: dfdet test --run {result.run.path}"
    with console.interruptible(f"all is written to {result.run.path}; {onward}"):
        found = result.tables()
        if "--json" in ours:
            files.write_json(ours["--json"], [table.as_dict() for table in (*result.shown, *found)])
        console.show(*found)
        console.say(f"wrote {result.run.path}")
        console.say(onward)
