"""All studies whose data are there, one after another."""

from pathlib import Path

from mtl_jax.console.eta import Pace
from mtl_jax.storage import commands
from mtl_jax.studies import study
from mtl_jax.studies.trial import Engine, Say
from mtl_jax.types import Config, DataMissing, InputError


def run(
    config: Config, path: str | Path, engine: Engine, say: Say = print
) -> tuple[int, list[Path]]:
    """Run the studies of a configuration, from where the folder was left.

    Args:
      config: as `configs/reproduce.py` makes it.
      path: a folder; each study gets one in it, by its name.
      engine: trains trials.
      say: told, in a sentence, what a person should know.

    Returns:
      Number of the signal that stopped it (0: it came to its end), and the folders of
      records of what was chosen, of the studies that have come so far.

    Raises:
      InputError: as `study.run`, before anything is trained; no study has its data.
    """
    commands.check_config("reproduce", config)
    commands.check_folder("reproduce", path)
    folder, studies, tasks = Path(path), {}, {}
    for name, fields in config.studies.items():
        if config.data.dir:
            fields.base.data.dir = config.data.dir
        try:
            made = study.check(fields)
        except DataMissing as error:
            say(f"left out: {name}. {error}")
        else:
            studies[name], tasks[name] = fields, made.setting.tasks
    if not studies:
        raise InputError(
            "no study has its data; say where they are: --config.data.dir."
        )

    def left() -> float | None:
        """Estimate seconds of all studies; others set the pace of those not begun."""
        pace: Pace | None = None
        known: dict[str, float] = {}
        for _ in range(2):  # the second time round there is a pace, if there is any
            for name, fields in studies.items():
                estimate = study.remaining(fields, tasks[name], folder / name, pace)
                if estimate:
                    known[name], pace = estimate
        return sum(known.values()) if known else None

    for number, (name, fields) in enumerate(studies.items(), start=1):
        say(f"study {number} of {len(studies)}: {name}")
        if signal := study.run(fields, folder / name, engine, say, left):
            return signal, _selected(folder, studies)
    return 0, _selected(folder, studies)


def _selected(folder: Path, studies: dict[str, Config]) -> list[Path]:
    paths = (folder / name / study.SELECTED for name in studies)
    return [path for path in paths if path.exists()]
