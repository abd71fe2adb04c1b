"""Tables of merged models: task vectors, and what lies between models."""

from collections.abc import Iterator, Mapping

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.variant import MERGED
from mtl_jax.report.charts import Look
from mtl_jax.report.findings import BASELINE, Findings
from mtl_jax.report.tables import Table
from mtl_jax.report.text import DASH, Cell, fixed

LENGTH, COSINE = "task_vector_length", "task_vector_cosine"
BARRIER, COEFFICIENT = "barrier", "merging_coefficient"


def merging(findings: Findings, looks: Mapping[str, Look]) -> Iterator[Table]:
    """Yield the tables of merged models, at the last point that was merged."""
    df = findings.records
    is_merged = df["variant"].str.startswith(MERGED)
    if not is_merged.any():
        return
    df = df[df["step"] == df[is_merged]["step"].max()]
    yield _of_tasks(findings, df)
    yield _of_models(findings, df, looks)


def _of_tasks(findings: Findings, df: Frame) -> Table:
    single = df[df["variant"] == BASELINE]
    rows = []
    for task in findings.tasks:
        of_task = single[single["task"] == task]
        others = [f"{COSINE}/{other}" for other in findings.tasks]
        barriers = [f"{BARRIER}/{other}" for other in findings.tasks]
        rows.append(
            [
                Cell(task),
                _mean(of_task, [LENGTH], 3),
                _mean(of_task, [f"{COSINE}/multi"], 3),
                _mean(of_task, others, 3),
                _mean(of_task, barriers, 3),
            ]
        )
    head = ["task", "length", "cosine with multi", "with other tasks"]
    head += ["barrier to other tasks (nats)"]
    note = (
        "Task vectors lead from the start to where single-task training came; means "
        "over seeds, and over other tasks, ± s.d. The barrier is the largest rise of a "
        "task's training loss above the straight line, on the way of the trunk to that "
        "of another task."
    )
    return Table("task-vectors", "Task vectors", head, rows, note)


def _of_models(findings: Findings, df: Frame, looks: Mapping[str, Look]) -> Table:
    rows = []
    for variant in findings.variants:
        rows_of = df[df["variant"] == variant]
        if variant == "multi" or variant.startswith(MERGED):
            row = [Cell(variant, color=looks[variant].color)]
            row += [
                _mean(rows_of, [COEFFICIENT], 3),
                _mean(rows_of, [f"{BARRIER}/{BASELINE}"], 3),
                _mean(rows_of, [f"{BARRIER}/multi"], 3),
            ]
            rows.append(row)
    head = ["model", "coefficient of a task", "barrier to single (nats)"]
    head += ["barrier to multi (nats)"]
    note = (
        "Means over seeds and tasks, ± s.d. Coefficients of task vectors are means "
        "over tensors; a barrier is that of a task's training loss, on the line of "
        "trunk and head from the single-task or the multi-task model."
    )
    return Table("merged-models", "Merged models", head, rows, note)


def _mean(rows: Frame, names: list[str], digits: int) -> Cell:
    values = rows[rows["name"].isin(names)]["value"]
    if not len(values):
        return Cell(DASH)
    spread = f"± {fixed(values.std(), digits)}" if len(values) > 1 else ""
    return Cell(fixed(values.mean(), digits), spread)
