"""Files of the paper's experiments: tables, and a page that begins with them."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mtl_jax.analysis import memo
from mtl_jax.analysis.curves import Frame
from mtl_jax.options import one_of
from mtl_jax.report import page
from mtl_jax.report.charts import export
from mtl_jax.report.findings import Findings
from mtl_jax.report.paper.experiments import EXPERIMENTS, Section, studied
from mtl_jax.report.tables import Table
from mtl_jax.storage import commands, disk, records, workdir
from mtl_jax.types import InputError

TABLES = "tables"
OPTIMIZER = "optimizer.name"
"""Field of a configuration."""
NEEDS = {
    "figure_1": "no variant beside single was trained on the same task.",
    "figure_2": "no variant beside single was trained on the same task.",
    "figure_3": "no factor of a target was recorded.",
    "table_1": "no variant beside single was trained on the same task.",
    "figure_4": "no multi-task optimizer was trained beside the sum of losses.",
    "figures_5_6": "no variant trains a target with auxiliary tasks.",
    "temperature": "all runs have one temperature.",
}
"""Reason why an experiment has nothing to say."""


def write(
    workdirs: Sequence[Path],
    experiments: Sequence[str],
    folder: str | Path,
    figures: Sequence[str] = (),
) -> Path:
    """Write tables and the report of experiments of the paper.

    Args:
      workdirs: of training runs, finished or not; several of one setting, such as of
        two optimizers, stand side by side under their folders' names.
      experiments: names in `EXPERIMENTS`, in the order of the page.
      folder: gets ``tables/*.csv`` and ``report/index.html``.
      figures: formats in which every figure is written beside the page.

    Returns:
      The page.

    Raises:
      InputError: an unknown experiment, or none; a workdir holds no records; the folder
        cannot be written.
    """
    for name in experiments:
        one_of("experiment of the paper", name, EXPERIMENTS)
    if not experiments:
        raise InputError(
            f"no experiment of the paper is named; name some of "
            f"{', '.join(EXPERIMENTS)}."
        )
    export.check(figures)
    root = Path(folder)
    with memo.scope():
        settings = page.find_all(list(dict.fromkeys(map(Path, workdirs))))
        sections = make(settings, experiments)
        _write_tables(root / TABLES, sections)
        return page.compose(settings, root / page.FOLDER, sections, figures)


def make(settings: Sequence[Findings], experiments: Sequence[str]) -> list[Section]:
    """Make the sections of experiments; what cannot be made says why."""
    chosen = studied([f.records for f in settings], [_tried(f) for f in settings])
    sections: list[Section] = []
    shown: list[Table] = []
    for name in experiments:
        try:
            section = EXPERIMENTS[name](chosen)
        except InputError as error:
            title = name.replace("_", " ").capitalize()
            section = Section(name, title, [str(error)], [], [], {})
        new = [table for table in section.tables if table not in shown]
        shown += new
        sentences = section.sentences or [f"There is nothing to show: {NEEDS[name]}"]
        sections.append(section._replace(tables=new, sentences=sentences))
    return sections


def _tried(findings: Findings) -> Frame:
    """Records of all candidates: of the sweep beside a choice, or of the workdir.

    Of a sweep over optimizers, those of the optimizer that was chosen.
    """
    path = findings.workdir
    swept = path.parent / commands.SWEEP
    if path.name != commands.SELECTED or not swept.is_dir():
        return records.read(path).assign(setting=findings.setting)
    chosen = findings.config.get(OPTIMIZER)
    configs = sorted(swept.glob(f"*/{workdir.CONFIG}"))
    frames = [
        records.read(config.parent)
        for config in configs
        if disk.read_json(config).get(OPTIMIZER) == chosen
    ]
    if not frames:
        return records.read(path).assign(setting=findings.setting)
    return pd.concat(frames, ignore_index=True).assign(setting=findings.setting)


def _write_tables(folder: Path, sections: Sequence[Section]) -> None:
    """Write every frame as CSV, whole or not at all."""
    frames = {name: frame for part in sections for name, frame in part.frames.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in frames.items():
            text = io.StringIO()
            frame.to_csv(text, index=False)
            with disk.whole(folder / f"{name}.csv") as file:
                file.write(text.getvalue().encode(errors="surrogateescape"))
    except OSError as error:
        raise InputError(
            f"the tables cannot be written to {folder}: {error.strerror or error}."
        ) from error
