"""The factors of trajectories: measured inside training or over its checkpoints.

Both run the same programs on the same arrays, so they give the same numbers, bit
for bit. A task factor looks at one task of one run at a time, whatever the variant, so
variants share its program.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import gradients
from mtl_jax.devices import memory, run_axis
from mtl_jax.devices.axis_map import AxisMap
from mtl_jax.devices.run_axis import Stack
from mtl_jax.metrics.factors.contract import (
    SCOPES,
    Measured,
    PathFactor,
    RunFactor,
    RunMeasured,
    RunProbe,
    TaskFactor,
    TaskProbe,
)
from mtl_jax.objectives.missing import mean_loss
from mtl_jax.storage.records import Row
from mtl_jax.training import probes
from mtl_jax.training.compile import Trace, build, init_states
from mtl_jax.training.record_rows import RowOf
from mtl_jax.training.resolve import PROBE, Experiment
from mtl_jax.training.setting import Setting
from mtl_jax.training.step import TrainState
from mtl_jax.training.variants import Variant
from mtl_jax.types import (
    ONE_INPUT,
    Array,
    Batch,
    InputError,
    ModelState,
    Params,
    PyTree,
    Scalar,
)


class TaskView(NamedTuple):
    """A task of a run; stacked, the tasks of all runs of a variant ``[V, ...]``."""

    params: Params
    """Trunk, and the head of the task."""
    model_state: ModelState
    task: Array
    """Its number in the setting."""


class CompiledFactor(NamedTuple):
    """A factor, compiled for the runs of a variant."""

    name: str
    measure: Callable[[TrainState], PyTree]
    """States of all runs, on the host, to what the factor says of them."""
    rows: Callable[[RowOf, int, list[int], PyTree], Iterator[Row]]
    """``(row_of, step, runs, what it said)`` to the rows of these runs."""
    temporaries: int
    """Bytes of its program's temporaries on a device."""


def factor_traces(made: Experiment, states: list[TrainState]) -> dict[tuple, Trace]:
    """Return what is to be compiled for the factors of an experiment.

    Args:
      made: the experiment.
      states: of every variant, or their shapes.

    Returns:
      Of a factor of tasks by its name and the number of views, of one of runs by its
      name and the variant; only where there are several tasks.
    """
    setting, seed = made.setting, made.config.data.seed
    batch = probes.probe_like(setting, made.splits[PROBE])
    like = {}  # of every size, one
    for variant, state in zip(made.variants, states, strict=True):
        view = jax.eval_shape(partial(views, setting, variant), state)
        like[views_of(variant)] = view
    devices = made.target.devices
    of_tasks = {
        (name, size): partial(
            _trace_task, setting, made.view_map, devices, batch, seed, factor, view
        )
        for name, factor in made.factors.task.items()
        for size, view in like.items()
    }
    of_runs = {
        (name, place): partial(
            _trace_run,
            *(setting, devices, batch, seed, made.config.batch_size),
            *(factor, variant, state),
        )
        for name, factor in made.factors.run.items()
        for place, (variant, state) in enumerate(
            zip(made.variants, states, strict=True)
        )
        if variant.task_ids.shape[1] > 1
    }
    return {**of_tasks, **of_runs}


def compile_factors(
    made: Experiment, states: list[TrainState], *, initial: bool = False
) -> list[list[CompiledFactor]]:
    """Compile the factors of an experiment for all its variants, several at a time.

    Args:
      made: the experiment.
      states: of every variant, on the host, for their shapes.
      initial: whether they are the states that runs start from.

    Returns:
      The gauges of every variant; those of runs only where there are several tasks.

    Raises:
      InputError: two factors record the same name.
    """
    setting, devices = made.setting, made.target.devices
    batch = probes.probe_batch(setting, made.splits[PROBE], made.config.data.seed)
    built = build(factor_traces(made, states))
    compiled = {key: each.compiled for key, each in built.items()}
    _refuse_twice(compiled)

    @cache
    def probe_on(place: Stack) -> Batch:
        return run_axis.replicate(place, batch)

    def of_tasks(name: str, variant: Variant) -> CompiledFactor:
        program = compiled[name, views_of(variant)]
        place = run_axis.make(views_of(variant), devices)
        probe = probe_on(place)

        def measure(states: TrainState) -> PyTree:
            placed = run_axis.shard(place, views(setting, variant, states))
            return run_axis.gather(place, program(placed, probe))

        rows, temporaries = partial(_task_rows, variant), memory.temporaries(program)
        return CompiledFactor(name, measure, rows, temporaries)

    def of_runs(name: str, number: int, variant: Variant) -> CompiledFactor:
        program = compiled[name, number]
        place = run_axis.make(len(variant.seeds), devices)
        rest = run_axis.shard(place, variant.inputs)
        probe = probe_on(place)

        def measure(states: TrainState) -> PyTree:
            values = program(run_axis.shard(place, states), *rest, probe)
            return run_axis.gather(place, values)

        rows = partial(_run_rows, setting, variant)
        return CompiledFactor(name, measure, rows, memory.temporaries(program))

    return [
        [of_tasks(name, variant) for name in made.factors.task]
        + [
            of_runs(name, number, variant)
            for name in made.factors.run
            if (name, number) in compiled
        ]
        + _from_start(made, variant, states[number] if initial else None)
        for number, variant in enumerate(made.variants)
    ]


def _refuse_twice(compiled: Mapping[tuple, Any]) -> None:
    """Refuse factors that record the same: their rows could not be told apart."""
    records: dict[tuple, str] = {}
    for (factor, _), program in compiled.items():
        tree = program.out_tree
        said = tree.unflatten(range(tree.num_leaves))
        of_kind = said._asdict() if isinstance(said, RunMeasured) else {"task": said}
        for recorded in [(kind, name) for kind in of_kind for name in of_kind[kind]]:
            other = records.setdefault(recorded, factor)
            if other != factor:
                raise InputError(
                    f"factors.names has {other} and {factor}, and both record "
                    f"{recorded[1]!r}; leave one of them out."
                )


def _from_start(
    made: Experiment, variant: Variant, initial: TrainState | None
) -> list[CompiledFactor]:
    """Factors of a variant that compare with its start, on the host."""
    if not made.factors.path:
        return []
    # Drawn anew for a run that goes on, which has its start no more.
    start = (initial or init_states(made.setting, variant)).params
    shape = *variant.task_ids.shape, len(SCOPES)

    def flat(value: np.ndarray) -> np.ndarray:  # [R, T, 2] to [V, 2]
        return np.broadcast_to(value, shape).reshape(-1, len(SCOPES))

    def of_path(name: str, factor: PathFactor) -> CompiledFactor:
        def measure(states: TrainState) -> PyTree:
            return jax.tree.map(flat, factor(start, states.params))

        return CompiledFactor(name, measure, partial(_task_rows, variant), 0)

    return [of_path(*item) for item in made.factors.path.items()]


def views(setting: Setting, variant: Variant, states: TrainState) -> TaskView:
    """Take all tasks that are measured of all runs, run by run, on the host."""
    runs, tasks = len(variant.labels), variant.measured

    def repeated(leaf: np.ndarray) -> np.ndarray:
        return leaf.repeat(tasks, axis=0)

    def flat(leaf: np.ndarray) -> np.ndarray:
        return leaf[:, :tasks].reshape(runs * tasks, *leaf.shape[2:])

    one_input = setting.batch_axes == ONE_INPUT
    return TaskView(
        params=Params(
            jax.tree.map(repeated, states.params.shared),
            jax.tree.map(flat, states.params.heads),
        ),
        model_state=ModelState(
            jax.tree.map(repeated if one_input else flat, states.model_state.trunk),
            jax.tree.map(flat, states.model_state.heads),
        ),
        task=flat(variant.task_ids),  # type: ignore[arg-type]
    )


def _mean_loss(
    setting: Setting, params: Params, state: ModelState, batch: Batch
) -> Scalar:
    outputs = setting.predict(params, state, batch.x)
    return mean_loss(setting.objective, outputs, batch.y)


def _trace_task(
    setting: Setting,
    view_map: AxisMap,
    devices: Sequence[Any],
    batch: Batch,
    seed: int,
    factor: TaskFactor,
    like: TaskView,
) -> Any:
    """Trace a task factor: views ``[V, ...]`` to values ``[V, 2]``."""

    def of_view(view: TaskView, batch: Batch) -> PyTree:
        shared_input = setting.batch_axes.x is None
        return factor(
            TaskProbe(
                loss_fn=lambda p, b: _mean_loss(setting, p, view.model_state, b),
                predict=lambda p, x: setting.predict(p, view.model_state, x),
                objective=setting.objective,
                params=view.params,
                batch=Batch(
                    batch.x if shared_input else batch.x[view.task],
                    jax.tree.map(lambda leaf: leaf[view.task], batch.y),
                ),
                key=jax.random.fold_in(jax.random.key(seed), view.task),
                width=jnp.asarray(setting.data.widths)[view.task],
            )
        )

    place = run_axis.make(len(like.task), devices)
    mapped = jax.jit(run_axis.map_runs(place, view_map, of_view, (0, None)))
    return mapped.trace(run_axis.sharded_like(place, like), run_axis.like(place, batch))


def _trace_run(
    setting: Setting,
    devices: Sequence[Any],
    probe: Batch,
    seed: int,
    batch_size: int,
    factor: RunFactor,
    variant: Variant,
    like: TrainState,
) -> Any:
    """Trace a run factor: states ``[R, ...]`` to what it says of each."""
    axes = setting.batch_axes

    def of_run(
        state: TrainState, rate: Array, tasks: Array, options: dict, probe: Batch
    ) -> PyTree:
        method = variant.rule(options)
        probe = probes.of_tasks(probe, tasks, axes)

        def of_task(params: Params, inputs: gradients.TaskInputs) -> Scalar:
            return _mean_loss(setting, params, inputs.state, inputs.batch)

        def inputs(batch: Batch) -> gradients.TaskInputs:
            return gradients.TaskInputs(batch, state.model_state)

        def update(losses: Array, grads: Params) -> tuple[PyTree, PyTree]:
            key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
            combined, _ = method.strategy.combine(losses, grads, state.smto, key)
            optimizer = method.optimizer(rate)
            updates: Any = optimizer.update(combined, state.opt, state.params)[0]
            return combined.shared, jax.tree.map(jnp.negative, updates.shared)

        input_axes = gradients.input_axes(axes)
        maps = {"batch_axes": input_axes, "task_map": method.task_map}
        return factor(
            RunProbe(
                losses=lambda params, batch: gradients.task_losses(
                    of_task, params, inputs(batch), **maps
                ),
                task_grads=lambda params, batch: gradients.task_grads(
                    of_task, params, inputs(batch), **maps
                ),
                update=update,
                params=state.params,
                batches=probes.mini_batches(probe, axes),
                random_batch=partial(
                    probes.random_batch, probe, tasks, batch_size, axes
                ),
                key=jax.random.key(seed),
                learning_rate=rate,
            )
        )

    place = run_axis.make(len(variant.seeds), devices)
    mapped = jax.jit(
        run_axis.map_runs(place, variant.run_map, of_run, (0, 0, 0, 0, None))
    )
    return mapped.trace(
        run_axis.sharded_like(place, like),
        *run_axis.sharded_like(place, variant.inputs),
        run_axis.like(place, probe),
    )


def views_of(variant: Variant) -> int:
    """Return the number of tasks that are measured, of all runs."""
    return len(variant.labels) * variant.measured


def _task_rows(
    variant: Variant, row_of: RowOf, step: int, runs: list[int], measured: PyTree
) -> Iterator[Row]:
    tasks = variant.measured
    for run in runs:
        for place, task in enumerate(variant.task_ids[run, :tasks].tolist()):
            for name, (values, errors) in measured.items():
                view = run * tasks + place
                for i, scope in enumerate(SCOPES):
                    error = np.nan if errors is None else errors[view, i]
                    value = values[view, i]
                    yield row_of(run, step, PROBE, task, name, value, scope, error)


def _run_rows(
    setting: Setting,
    variant: Variant,
    row_of: RowOf,
    step: int,
    runs: list[int],
    measured: PyTree,
) -> Iterator[Row]:
    def row(task: int | None, name: str, values: Measured, *at: int) -> Row:
        value, error = (np.nan if v is None else v[at] for v in values)
        return row_of(at[0], step, PROBE, task, name, value, "shared", error)

    for run in runs:
        tasks = variant.task_ids[run].tolist()
        for name, values in measured.run.items():
            yield row(None, name, values, run)
        for name, values in measured.task.items():
            for i, task in enumerate(tasks):
                yield row(task, name, values, run, i)
        for name, values in measured.pair.items():
            for i, task in enumerate(tasks):
                for j, other in enumerate(tasks):
                    if i != j:
                        full = f"{name}/{setting.tasks[other]}"
                        yield row(task, full, values, run, i, j)
