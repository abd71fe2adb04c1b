"""The worth of models to a target: their losses and scores, and their merges by it.

Models are those of `branches`: leaves ``[R, B, ...]`` of branches, the target the first
of their tasks.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from mtl_jax import merging
from mtl_jax.devices import run_axis
from mtl_jax.devices.axis_map import sequential
from mtl_jax.merging import Greedy
from mtl_jax.studies.branches import Model, traced
from mtl_jax.training import evaluate
from mtl_jax.training.batches import Loader
from mtl_jax.training.compile import build, evaluation_key
from mtl_jax.training.evaluate import EvalBatches
from mtl_jax.training.loop import evaluation_of
from mtl_jax.training.resolve import Experiment
from mtl_jax.training.step import data_pool
from mtl_jax.training.streaming import SmallPools
from mtl_jax.training.variants import Variant
from mtl_jax.types import ONE_INPUT, Array, ModelState, PyTree, Scalar


@dataclass(frozen=True)
class Judge:
    """Worth of models to the targets of their runs."""

    made: Experiment
    runs: Variant

    def losses(self, models: Model) -> np.ndarray:
        """Return the validation losses of branches ``[R, B]``, nats.

        Args:
          models: leaves ``[R, B, ...]``, the target the first of their tasks.
        """
        return np.asarray(self._losses(models, self.runs.task_ids, self._pool))

    def merge(self, models: Model) -> Greedy:
        """Merge the branches of every run, leaves ``[R, B, ...]`` to ``[R, ...]``."""
        return jax.device_get(self._merge(models, self.runs.task_ids, self._pool))

    def evaluate(self, models: Model) -> PyTree:
        """Return `evaluate.sums` of models of all runs ``[R, ...]``, on the host."""
        loader, program = self._evaluation
        stack = loader.stacks[0]
        first = jax.device_get(jax.vmap(self._of_target)(models))
        placed = run_axis.shard(stack, first)
        task_ids = run_axis.shard(stack, self.runs.task_ids)
        parts = [
            run_axis.gather(stack, program(placed, task_ids, pools[0]))
            for pools in loader.eval_chunks()
        ]
        return evaluate.join(parts, self.batches)

    @cached_property
    def batches(self) -> EvalBatches:
        """Return the batches of all splits."""
        return evaluate.labelled(evaluation_of(self.made), self.made.setting)

    @cached_property
    def _evaluation(self) -> tuple[Loader, Any]:
        loader, traces = traced(self.made, self.runs)
        key = evaluation_key(self.runs, loader.stacks[0])
        return loader, build({key: traces[key]})[key].compiled

    @cached_property
    def _losses(self) -> Any:
        def of_run(models: Model, task_ids: Array, pool: tuple) -> Array:
            loss = partial(self._loss, task_ids, pool)
            return self.made.view_map(loss, 0)(models)

        return jax.jit(sequential(of_run, (0, 0, None)))

    @cached_property
    def _merge(self) -> Any:
        def of_run(models: Model, task_ids: Array, pool: tuple) -> Greedy:
            loss = partial(self._loss, task_ids, pool)
            return merging.greedy_merge(models, loss, axis_map=self.made.view_map)

        return jax.jit(sequential(of_run, (0, 0, None)))

    def _loss(self, task_ids: Array, pool: tuple, model: Model) -> Scalar:
        """Mean loss of the target of one model on all validation examples."""
        data, rows, mask = pool
        task_map, setting = self.runs.method.task_map, self.made.setting
        params, state = self._of_target(model)
        sums = evaluate.sums(
            setting, task_map, params, state, rows, mask, task_ids, data
        )
        return sums["loss"].sum() / sums["count"].sum()

    def _of_target(self, model: Model) -> Model:
        """Cut the first of its tasks out of a model."""
        params, state = model
        first = partial(jax.tree.map, lambda leaf: leaf[:1])
        is_shared = self.made.setting.batch_axes == ONE_INPUT
        trunk = state.trunk if is_shared else first(state.trunk)
        return (
            params._replace(heads=first(params.heads)),
            ModelState(trunk, first(state.heads)),
        )

    @cached_property
    def _pool(self) -> tuple:
        """Validation examples alone, on a device: the rest may not fit there."""
        setting, size = self.made.setting, self.made.config.eval_batch_size
        splits = {"validation": self.made.splits["validation"]}
        batches = evaluate.labelled(evaluate.eval_batches(splits, size), setting)
        pools = SmallPools(data_pool(setting), {}, len(np.unique(batches.rows)))
        data, (rows,) = pools.gather([batches.rows])
        return jax.device_put((data, rows, batches.mask))
