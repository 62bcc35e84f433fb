"""Command line and configuration files in, a checked configuration out: LightningCLI, subclassed thinly.

What is mended: detector names beside import paths; one-line errors with the nearest key; a checkpoint's
hyper-parameters never beat the command line; nothing is written or instantiated by parsing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import Namespace
from lightning import LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import dfdet
from dfdet.data.module import VideoDataModule
from dfdet.detectors import DETECTORS, import_path
from dfdet.errors import UserError, nearest
from dfdet.imports import import_object


@dataclass
class WandbOptions:
    """Tracking with Weights & Biases; off unless a project is named. WANDB_MODE=offline keeps it on this machine.

    Attributes:
        project: The W&B project; None: W&B is not used.
        entity: The W&B team or user.
        tags: Tags of the run.
    """

    project: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class OneLineParser(LightningArgumentParser):
    """Raises a UserError in one line where the stock parser prints a usage of forty."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Called by jsonargparse for anything wrong in arguments or configuration."""
        raise _as_user_error(message, self._known_keys()) from ex

    def _known_keys(self) -> list[str]:
        keys = [a.dest for a in self._actions if a.dest not in ("help", "config", "print_config")]
        return keys + [f"model.{name}" for name in _model_keys()]


def _model_keys() -> list[str]:
    from dfdet.detectors.binary import BinaryDetector
    from dfdet.detectors.frames import FrameDetector

    found = {**FrameDetector.__init__.__annotations__, **BinaryDetector.__init__.__annotations__}
    return [n for n in found if n not in ("return", "network", "kwargs")]


def _as_user_error(message: str, known: Iterable[str]) -> UserError:
    """Jsonargparse's message, which may have many lines, as one line with the nearest key."""
    text = " ".join(message.split()).removeprefix("Parser key ")
    if text.endswith("arguments are required: model"):
        return _no_detector()
    owner = re.match(r'"?([\w.]+)"?: ', text)
    inner = owner and re.search(r"- unknown key '([\w.]+)'; (?:did you mean '([\w.]+)'\?)?", text)
    if owner and inner:  # found by the parser of a class within ours
        key = f"{owner[1]}.{inner[1]}"
        own = [k for k in known if k.startswith(f"{owner[1]}.")]
        return UserError(
            f"unknown key {key!r}", f"did you mean '{owner[1]}.{inner[2]}'?" if inner[2] else _nearest_key(key, own)
        )
    within = owner and re.search(r"- ([\w.]+) is (.*?); it wants (.*?) - ", text)
    if owner and within:
        return UserError(f"{owner[1]}.{within[1]} is {within[2]}", f"it wants {within[3]}")
    if group := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text):
        key = f"{group[1]}.{group[2]}"
        return UserError(f"unknown key {key!r}", _nearest_key(key, known))
    for pattern in _UNKNOWN:
        if unknown := re.search(pattern, text):
            return UserError(f"unknown key {unknown[1]!r}", _nearest_key(unknown[1], known))
    value = re.search(r"(?:Given|Got) value: (.*?)(?: Given value type.*)?$", text)
    expected = dict.fromkeys(re.findall(r"Expected an? (?:<class '([\w.]+)'>|typing\.(Literal\[[^\]]*\]))", text))
    if owner and value and expected:
        kinds = [(a or b).replace("NoneType", "null").replace("Literal", "one of ") for a, b in expected]
        return UserError(f"{owner[1]} is {value[1]!r}", f"it wants {' or '.join(kinds)}")
    return UserError(text if len(text) < 600 else text[:597] + "...")


def _no_detector() -> UserError:
    return UserError("no detector is chosen", f"give --config FILE or --model NAME: {', '.join(DETECTORS)}")


_UNKNOWN = (
    r"[Uu]nrecognized arguments: (?:--)?([\w.\-]+)",
    r"Key '([\w.]+)' is not expected",
    r'[Kk]ey "([\w.]+)" is not expected',
    r"Option '([\w.]+)' is not accepted",
    r"No action for key '([\w.]+)'",
)


def _nearest_key(key: str, known: Iterable[str]) -> str:
    keys = sorted(set(known))
    short = [k.rsplit(".", 1)[-1] for k in keys]
    found = nearest(key, keys)
    if not found.startswith("did you mean"):
        last = key.rsplit(".", 1)[-1]
        found = nearest(last, short)
        for name in short:
            found = found.replace(f"{name!r}?", f"{keys[short.index(name)]!r}?")
    return found if found.startswith("did you mean") else "`dfdet fit --help_all` lists every key"


def find_config(name: str) -> Path:
    """A configuration file: as given, or below dfdet's own configs/ (``configs/`` in front may be left out).

    Raises:
        UserError: If there is none, with the nearest of dfdet's own.
    """
    if Path(name).is_file():
        return Path(name)
    short = name.removeprefix("configs/")
    home = config_home()
    if (home / short).is_file():
        return home / short
    own = [p.relative_to(home).as_posix() for p in home.glob("*/*.yaml")]
    raise UserError(f"configuration {name} does not exist", nearest(short, own, cutoff=0.75) or "see `dfdet models`")


def config_home() -> Path:
    """Where dfdet's own configurations lie: within the package (in a checkout by a link to configs/)."""
    return Path(dfdet.__file__).parent / "configs"


def _read_config(name: str) -> str:
    """A configuration as YAML text with detector names turned into import paths."""
    path = find_config(name)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no keys", "a configuration is a YAML mapping")
    model = values.get("model")
    if isinstance(model, str):
        values["model"] = {"class_path": _detector_class(model)}
    elif isinstance(model, dict) and "class_path" in model:
        model["class_path"] = _detector_class(str(model["class_path"]))
    elif model is not None and not isinstance(model, dict):
        raise UserError(f"{path}: model is {model!r}", "it wants a detector's name, or class_path and init_args")
    return str(yaml.safe_dump(values, sort_keys=False))


def _detector_class(name: str) -> str:
    """The import path of a detector, after a look that it is one."""
    path = import_path(name)
    found = import_object(path, "detector")
    if not (isinstance(found, type) and issubclass(found, LightningModule)):
        raise UserError(f"{path} is no detector", "a detector is a LightningModule that keeps ClipBatch and ClipScores")
    return path


def resolve(arguments: Sequence[str]) -> list[str]:
    """Arguments with detector names as import paths and configurations read, in their order."""
    out: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        if flag in ("--config", "-c", "--model"):
            if not equals:
                if not waiting:
                    raise UserError(f"{flag} wants a value")
                value = waiting.pop(0)
            out.append(f"--model={_detector_class(value)}" if flag == "--model" else f"--config={_read_config(value)}")
        else:
            out.append(word)
    return out


def _refuse_unknown(arguments: Sequence[str], parser: Any) -> None:
    """A mistyped ``--model`` is an unknown key, not a missing detector."""
    known = parser._known_keys()
    roots = {key.split(".")[0] for key in known}
    for word in arguments:
        key = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and key.split(".")[0] not in roots:
            raise UserError(f"unknown key {key!r}", _nearest_key(key, [*known, "model", "config"]))


class DetectorCLI(LightningCLI):
    """Parses a configuration; :meth:`build` makes the objects once the run directory is known.

    Args:
        arguments: ``--config FILE --model.lr 3e-4 ...``.
        filled: The detector will be filled from elsewhere: what the configuration starts it from is not looked for.
    """

    def __init__(self, arguments: Sequence[str], filled: bool = False) -> None:
        self._given, self._filled = list(arguments), filled
        super().__init__(
            model_class=LightningModule,
            datamodule_class=VideoDataModule,
            save_config_callback=None,
            trainer_defaults={"max_epochs": 20, "logger": False, "enable_progress_bar": False},
            seed_everything_default=0,
            parser_class=OneLineParser,
            parser_kwargs={"allow_abbrev": False},  # --trainer.max_epoch must not pass for max_epochs
            subclass_mode_model=True,
            args=None,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The keys of a run that are neither trainer, model nor data."""
        add = parser.add_argument
        add("--runs", type=str, default="runs", help="Directory that holds all runs.")
        add("--experiment", type=str, default="default", help="What the run belongs to.")
        add("--name", type=str | None, default=None, help="The run's name; by default the detector's.")
        add("--monitor", type=str, default="val/video_auroc", help="What decides which checkpoint is best.")
        add(
            "--monitor_mode",
            type=Literal["max", "min"] | None,
            default=None,
            help="Whether more or less of it is better; by default less of a loss or an error rate, more of others.",
        )
        add("--patience", type=int | None, default=None, help="Stop after so many epochs without a better one.")
        add("--allow_target_selection", type=bool, default=False, help="Let a corpus that is not trained on choose.")
        add("--wandb", type=WandbOptions, default=WandbOptions())
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses what was given, never sys.argv."""
        arguments = resolve(self._given)
        if not any(word.startswith(("--model=", "--config=")) for word in arguments):
            _refuse_unknown(arguments, self.parser)
            raise _no_detector()
        self.config = parser.parse_args(arguments)

    def _parse_ckpt_path(self) -> None:
        """The stock CLI lets a checkpoint's hyper-parameters beat the command line here; ours does not."""

    def _set_seed(self) -> None:
        """The commands seed by themselves, once it is known that something will be made."""

    def instantiate_classes(self) -> None:
        """Parsing makes nothing; see :meth:`build`."""

    def build(self) -> tuple[LightningModule, VideoDataModule]:
        """Detector and data module of the configuration."""
        if self._filled:
            _start_from_nothing(self.config.model)
        made = self._make("model", "data")
        return made["model"], made["data"]

    def trainer_arguments(self) -> dict[str, Any]:
        """The arguments of the Trainer, its callbacks and loggers made."""
        return dict(self._make("trainer")["trainer"])

    def wandb(self) -> WandbOptions:
        """How to track with Weights & Biases."""
        options: WandbOptions = self._make("wandb")["wandb"]
        return options

    def _make(self, *keys: str) -> Any:
        """The objects of these keys alone: a backbone is not to be made again for a trainer."""
        try:
            return self.parser.instantiate_classes(Namespace({key: self.config[key] for key in keys}))
        except ValueError as error:  # jsonargparse wraps what a constructor raised, with the whole configuration
            reason = error.__cause__ or error
            if isinstance(reason, UserError):
                raise reason from None
            raise UserError(f"{' and '.join(keys)} cannot be made: {str(reason)[:300]}") from error
        except (TypeError, RuntimeError, AssertionError) as error:
            if "model" not in keys or not str(self.config.model.class_path).startswith("dfdet."):
                raise  # a fault of someone's own code is told in full
            raise UserError(f"model cannot be made with these arguments: {str(error)[:300]}") from error

    @property
    def monitor_mode(self) -> str:
        """``min`` or ``max``, as given or by the monitor's name."""
        less = any(word in self.config.monitor for word in ("loss", "eer"))
        return str(self.config.monitor_mode or ("min" if less else "max"))

    def dump(self) -> str:
        """The complete configuration as YAML, enough to do it again, from any directory."""
        config = self.config.clone()
        for stage in ("train", "val", "test"):
            config.data[stage] = _absolute(config.data[stage])
        return str(self.parser.dump(config, skip_none=False))


def _start_from_nothing(model: Namespace) -> None:
    """Neither pretrained weights nor a file: they may be gone, or out of reach, and nothing of them would stay."""
    from dfdet.detectors.binary import BinaryDetector

    if not issubclass(import_object(model.class_path, "detector"), BinaryDetector):
        return  # what another's arguments mean is not ours to say
    given = model.get("init_args") or Namespace()
    if given.get("pretrained") is True:
        given["pretrained"] = False
    if isinstance(given.get("weights"), str):
        given["weights"] = None


def _absolute(given: Any) -> Any:
    """The manifests of a stage by absolute paths, whatever form they are given in."""
    if isinstance(given, list):
        return [_absolute(one) for one in given]
    if isinstance(given, str):
        return str(Path(given).resolve())
    if given is not None:
        given.manifest = str(Path(given.manifest).resolve())
    return given


def help_all() -> str:
    """Every key of a configuration, with its help and default."""
    cli = DetectorCLI(["--model", next(iter(DETECTORS))])
    return str(cli.parser.format_help())
