"""The study on digits shrunk to seconds, and engines that train nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.sweeps import digits
from mtl_jax.storage import workdir
from mtl_jax.studies import trial
from mtl_jax.types import Config
from tests import workdirs
from tests.analysis.synthetic import curve

CHANGES = {
    "base.steps": 12,
    "base.model.mlp.widths": (8,),
    "base.probe_size": 48,
    "base.eval_batch_size": 64,
    "base.trajectory.dense": 1,
    "base.trajectory.count": 3,
    "base.checkpoint.every": 4,
    "base.steps_per_dispatch": 4,
    "base.factors.names": (),
    "grid.learning_rates": (1e-2, 1e-3),
    "grid.optimizers": ("adam",),
    "grid.batch_sizes": (8, 16),
    "grid.points": 3,
    "final.seeds": (1, 2),
}
TASKS = ("digits_0", "digits_1", "digits_2")


def config(**changes: Any) -> Config:
    """The small config with fields changed; ``__`` in a name stands for a dot."""
    found: Any = digits.get_config()
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    found.update_from_flattened_dict({**CHANGES, **changes})
    return found


def arguments(folder: Path, **changes: Any) -> list[str]:
    """Arguments of `experiments.sweep` for the small study."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    root = Path(__file__).parent.parent
    return [
        f"--config={root / 'configs' / 'sweeps' / 'digits.py'}",
        f"--workdir={folder}",
        "--noreport",
        *(f"--config.{name}={v}" for name, v in {**CHANGES, **changes}.items()),
    ]


class Pretender:
    """An engine that writes the records of trials without training them.

    The best validation accuracy of a task is what ``scores`` says of (variant, task,
    learning rate, batch size, optimizer), or of the same without the optimizer,
    otherwise .1.
    """

    def __init__(self, scores: Mapping[tuple, float] | None = None) -> None:
        self.scores = scores or {}
        self.trained: list[trial.Trial] = []

    def __call__(self, trials: Any, folder: Path, say: trial.Say) -> int | None:
        for one in trials:
            if trial.seconds(one, folder) is None:
                say(f"{folder.name}: {one.name}")
                self.trained.append(one)
                workdirs.write(folder / one.name, self._rows(one))
                content = {"seconds": 1.0}
                workdir.write_json(folder / one.name / trial.FINISHED, content)
        return None

    def _rows(self, one: trial.Trial) -> list[dict[str, Any]]:
        config, rows = one.config, []
        pairs = [(t, rate) for t in TASKS for rate in config.learning_rates]
        runs = tuple(map(tuple, config.single_runs)) or pairs
        for seed in config.seeds:
            for task, rate in runs:
                key = (one.variant, task, rate, config.batch_size)
                score = self.scores.get(key, 0.1)
                score = self.scores.get((*key, config.optimizer.name), score)
                run = runs.index((task, rate)) if one.variant == "single" else seed
                rows += curve(
                    one.variant, [2.0, 1.0, 0.5], accuracy=[0.0, score, 0.05],
                    steps=[0, 6, 12], seed=seed, task=task, rate=rate, run=run,
                    batch_size=config.batch_size, setting="digits",
                )  # fmt: skip
        return rows
