"""Training from Python: one call, and what it leaves."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_jax.options import closest, did_you_mean
from mtl_jax.storage import records, workdir
from mtl_jax.training import config as configs
from mtl_jax.training.loop import Outcome, run
from mtl_jax.training.optimizers import OptimizerMaker, check_optimizer
from mtl_jax.training.setting import Setting
from mtl_jax.types import Config, InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """A training run: its folder, records and report. A notebook shows its table."""

    workdir: Path
    outcome: Outcome
    """The end of this process's work; see `training.loop.Outcome`."""

    @cached_property
    def records(self) -> "pd.DataFrame":
        """Records, one number a row; see `storage.records.Row`."""
        return records.read(self.workdir)

    @cached_property
    def report(self) -> Path:
        """Path of the report ``index.html``, written when it is first asked for."""
        from mtl_jax import report

        return report.write(self.workdir)

    @cached_property
    def _figures(self) -> dict[str, Path]:
        """Figures of the report by name, written when one is first asked for."""
        from mtl_jax import report

        folder = report.write(self.workdir, figures=("png",)).parent
        return {path.stem: path for path in sorted(folder.glob("*.png"))}

    def figure(self, name: str) -> Path:
        """Return the PNG of a figure of the report, such as ``learning``.

        Raises:
          InputError: the report has no such figure.
        """
        figures = self._figures
        if name not in figures:
            raise InputError(
                f"the report has no figure {name!r}; it has {', '.join(figures)}"
                f"{did_you_mean(closest(name, figures))}"
            )
        return figures[name]

    def _printed(self) -> Any:
        """Console that has printed the closing table, for an export."""
        from rich.console import Console

        from mtl_jax.report import terminal_table

        console = Console(record=True, width=140, file=StringIO())
        console.print(terminal_table.table(self.records))
        return console

    def __str__(self) -> str:
        return self._printed().export_text().rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        page = "<pre style='font-family:monospace;line-height:1.3'>{code}</pre>"
        return self._printed().export_html(inline_styles=True, code_format=page)


def train(
    setting: Setting,
    *,
    workdir: str | Path,
    variants: Sequence[str] = ("single", "multi"),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 2_000,
    learning_rates: Sequence[float] = (1e-3,),
    optimizer: str | OptimizerMaker | None = None,
    say: Callable[[str], None] | None = None,
    **fields: Any,
) -> Result:
    """Train variants side by side on tasks of your own, and keep all in a folder.

    The same call again goes on from where the folder left off, so it can be stopped at
    any time; it shows nothing unless it is asked to.

    Args:
      setting: what `setting` returns.
      workdir: folder of records, checkpoints and report; made if it is not there.
      variants: ``single``, ``multi``, and ``multi-NAME`` with a multi-task optimizer.
      seeds: of initialisation and batches; one run a variant, seed and rate.
      steps: of every run.
      learning_rates: of every variant.
      optimizer: one of optax's by its name, ``"adamw"``, or a function of the learning
        rate: ``lambda rate: optax.chain(optax.clip(1.0), optax.sgd(rate))``.
      say: told, in a sentence, what a person should know; pass ``print`` to see it, and
        the steps.
      **fields: any other field of the configuration (`training.config`) by its name,
        with ``__`` for a dot: ``batch_size=32``, ``factors__names=("conflict",)``.

    Raises:
      InputError: a value out of its range, an unknown field, or a folder that holds
        something else.
    """
    if not isinstance(setting, Setting):
        raise InputError(
            f"setting is a {type(setting).__name__}; pass what mtl_jax.setting returns."
        )
    config = _config(
        setting,
        variants=_several("variants", variants),
        seeds=_several("seeds", seeds),
        steps=steps,
        learning_rates=_several("learning_rates", learning_rates),
        **fields,
    )
    maker = None
    if isinstance(optimizer, str):
        config.optimizer.name = optimizer
    elif optimizer is not None:
        check_optimizer(optimizer, {"w": 1.0})
        maker = optimizer
    outcome = run(
        config,
        workdir,
        say or (lambda _: None),
        setting=setting,
        optimizer=maker,
        progress=say is not None,
    )
    return Result(Path(workdir), outcome)


def _several(name: str, values: Any) -> tuple[Any, ...]:
    """Return the values of a field that takes several."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"{name} is {values!r}; pass several: {name}=({values!r},).")
    return tuple(v.item() if isinstance(v, np.generic) else v for v in values)


def _config(setting: Setting, **fields: Any) -> Config:
    """Return the default configuration with some fields changed."""
    config = configs.default()
    config.setting = setting.name
    config.batch_size = min(config.batch_size, *map(len, setting.data.rows["train"]))
    config.evaluate = tuple(s for s in config.evaluate if s in _splits(setting))
    known = workdir.flat(config)
    for name in fields:
        field = name.replace("__", ".")
        if field not in known:
            raise InputError(
                f"there is no field {field!r} of the configuration"
                f"{did_you_mean(closest(field, known))}"
            )
    dotted = {name.replace("__", "."): value for name, value in fields.items()}
    try:
        config.update_from_flattened_dict(dotted)
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    return config


def _splits(setting: Setting) -> set[str]:
    return {"probe", *setting.data.rows}
