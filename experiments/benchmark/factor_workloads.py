"""W3 and W4 of the benchmark: ours, and the ways of `factor_peers` beside it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import metrics, models
from mtl_jax.gradients import task_gram
from mtl_jax.objectives import losses
from mtl_jax.types import ONE_INPUT, Array, Batch, Params

from .tools import TOOLS, missing
from .ways import Say, Way

TASKS, BATCH, SIDE = 40, 64, 64
STEM_STRIDE, FEATURES = 2, 128
EXAMPLES, SIZE, RHO, PRODUCTS = 2_048, 128, 1e-3, 20
FISHER_SIZE, FREE_SIZE = 16, 32
"""Mini-batches of the Fisher estimator, and where results do not depend on them: the
fastest of 8 to 128 here."""


def _compiled(fn: Callable[..., Any], *args: Any) -> tuple[Callable[[], Any], float]:
    """The program on its arguments, and the megabytes of its temporaries."""
    program = jax.jit(fn).lower(*args).compile()
    memory = program.memory_analysis()
    megabytes = memory.temp_size_in_bytes / 1e6 if memory else float("nan")
    return lambda: jax.block_until_ready(program(*args)), megabytes


def _w3_trunk() -> tuple[Any, dict[str, Any]]:
    trunk: Any = models.make("resnet", stem_stride=STEM_STRIDE)
    x = jnp.zeros((1, SIDE, SIDE, 3))
    return trunk, jax.jit(lambda: trunk.init(jax.random.key(0), x, train=False))()


def _kernels(params: dict[str, Any]) -> list[np.ndarray]:
    """Kernels in the order of making: stem, then block by block."""
    blocks = sorted(name for name in params if name.startswith("Block"))
    layers = [params, *(params[name] for name in blocks)]
    return [
        np.asarray(layer[name]["kernel"])
        for layer in layers
        for name in sorted(layer)
        if name.startswith("ConvNorm")
    ]


def w3_inputs() -> dict[str, Any]:
    """Return what `factor_peers.w3_gram` is given: our weights and random images."""
    rng = np.random.default_rng(0)
    return {
        "x": rng.random((BATCH, SIDE, SIDE, 3), np.float32),
        "y": rng.integers(0, 2, (TASKS, BATCH)).astype(np.float32),
        "kernels": _kernels(_w3_trunk()[1]["params"]),
        "head": rng.normal(size=(TASKS, FEATURES)).astype(np.float32) / 11,
        "stem_stride": STEM_STRIDE,
    }


def w3(say: Say, peers: bool) -> list[tuple[str, list[Way]]]:
    """Time the Gramian of 40 binary tasks on one batch of 64 images."""
    trunk, variables = _w3_trunk()
    inputs = w3_inputs()

    def loss(params: Params, batch: Batch) -> Array:
        features, _ = trunk.apply(
            {**variables, "params": params.shared},
            batch.x,
            train=True,
            mutable=["batch_stats"],
        )
        logits = features @ params.heads
        return optax.sigmoid_binary_cross_entropy(logits, batch.y).mean()

    gram, megabytes = _compiled(
        lambda params, batch: task_gram(loss, params, batch, ONE_INPUT)[1].entries,
        Params(variables["params"], jnp.asarray(inputs["head"])),
        Batch(jnp.asarray(inputs["x"]), jnp.asarray(inputs["y"])),
    )
    ways = [Way("mtl_jax", gram, megabytes=megabytes)]
    if peers:
        ways += _w3_peers(say, inputs, np.asarray(gram()))
    return [("W3", ways)]


def _w3_peers(say: Say, inputs: dict[str, Any], ours: np.ndarray) -> Iterator[Way]:
    """Yield the peers' ways that are installed and do not fail."""
    from . import factor_peers

    for name in _available(say, "W3", factor_peers.W3_WAYS):
        try:
            run = factor_peers.w3_gram(name, **inputs)
            _compare(say, f"W3 {name}", run().numpy(), ours)
        except (RuntimeError, ValueError) as error:
            say(f"W3 {name} fails: {str(error).splitlines()[0]}")
            continue
        yield Way(name, run, megabytes=_peer_megabytes(name))


def _peer_megabytes(name: str) -> float:
    """Measure the peak of a fresh process that does W3 once, less what it held."""
    done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.peak_memory", name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def _available(say: Say, label: str, names: Iterable[str]) -> Iterator[str]:
    """Yield the ways whose modules are installed; name the others as missing."""
    for name in names:
        if lacks := missing(TOOLS[name]):
            say(f"missing for {label} {name}: {', '.join(lacks)}")
        else:
            yield name


def _compare(say: Say, label: str, theirs: Any, ours: Any) -> None:
    scale = np.abs(ours).max()
    say(f"{label}: differs from ours by {np.abs(theirs - ours).max() / scale:.1e}")


class _Task:
    """A task of W1: network, examples, and what metrics ask for."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.random((EXAMPLES, 28, 28, 1), np.float32)
        self.y = rng.integers(0, 10, EXAMPLES, dtype=np.int32)
        options = {"channels": (10, 20), "kernel_size": 5, "hidden": 50}
        self._trunk: Any = models.make("cnn", padding="valid", **options)
        init = jax.jit(
            lambda: self._trunk.init(jax.random.key(0), self.x[:1], train=False)
        )
        head = rng.normal(size=(50, 10)).astype(np.float32) / 7
        self.params = (init()["params"], {"kernel": jnp.asarray(head)})
        self.params[1]["bias"] = jnp.zeros(10)

    def predict(self, params: Any, x: Array) -> Array:
        """Return logits [B, 10]."""
        features = self._trunk.apply({"params": params[0]}, x, train=False)
        return features @ params[1]["kernel"] + params[1]["bias"][None]

    def loss(self, params: Any, batch: Batch) -> Array:
        """Return the mean loss of a batch."""
        logits = self.predict(params, batch.x)
        return losses.SOFTMAX.example_loss(logits, batch.y).mean()

    def draw(self) -> np.ndarray:
        """Draw labels [N] from the network's own likelihood."""
        logits = jax.jit(self.predict)(self.params, jnp.asarray(self.x))
        return np.array(losses.SOFTMAX.sample_targets(jax.random.key(2), logits))

    def weights(self) -> list[np.ndarray]:
        """Return kernel and bias of every layer in order."""
        trunk, head = self.params
        layers = [trunk["ConvPool_0"], trunk["ConvPool_1"], trunk["Dense_0"], head]
        return [np.asarray(layer[k]) for layer in layers for k in ("kernel", "bias")]


def w4(say: Say, peers: bool) -> list[tuple[str, list[Way]]]:
    """Time factors of one task on 2,048 examples."""
    task = _Task()
    theirs = _peer_factors(task) if peers else {}
    rows = []
    for label, factors in _our_factors(task).items():
        ways = []
        for name, (run, value) in factors.items():
            say(f"{label} {name}: {value(run())}")
            ways.append(Way(name, run))
        made = theirs.get(label, {})
        for name in _available(say, label, made):
            run = made[name]()
            say(f"{label} {name}: {run():.6g}")
            ways.append(Way(name, run))
        rows.append((label, ways))
    return rows


def _our_factors(task: _Task) -> dict[str, dict[str, Any]]:
    """Return our ways by label: programs, and how to read their values."""
    batch = Batch(jnp.asarray(task.x), jnp.asarray(task.y))
    key = jax.random.key(1)

    def made(metric: Callable[..., Any], read: Callable[[Any], Any]) -> tuple:
        return _compiled(metric, task.params, batch)[0], read

    def fisher(estimator: str, size: int) -> tuple:
        def metric(params: Any, batch: Batch) -> Any:
            return metrics.fisher_trace(
                task.predict,
                losses.SOFTMAX,
                params,
                batch.x,
                key=key,
                estimator=estimator,
                batch_size=size,
            )

        return made(metric, lambda f: f"{f.value:.6g} +- {f.standard_error:.2g}")

    sharp = partial(metrics.sharpness, task.loss, rho=RHO, batch_size=SIZE)
    cosines = partial(metrics.batch_cosines, task.loss, batch_size=SIZE)
    coherence = partial(metrics.m_coherence, task.loss, batch_size=FREE_SIZE)
    operator = metrics.hessian_operator(task.loss)

    def top(params: Any, batch: Batch) -> Any:
        return metrics.top_eigenvalue(
            operator, params, batch, key=key, iterations=PRODUCTS, batch_size=FREE_SIZE
        )

    return {
        "W4a sharpness": {"mtl_jax": made(sharp, lambda f: f"{f.value:.6g}")},
        "W4b 20 HVPs": {"mtl_jax": made(top, lambda f: f"{f.value:.6g}")},
        "W4c Fisher trace": {
            "mtl_jax minibatch": fisher("minibatch", FISHER_SIZE),
            "mtl_jax per_example": fisher("per_example", FREE_SIZE),
        },
        "W4d batch cosines": {"mtl_jax": made(cosines, lambda f: f"{f.mean:.6g}")},
        "W4d m-coherence": {"mtl_jax": made(coherence, lambda f: f"{f.alpha:.6g}")},
    }


def _peer_factors(task: _Task) -> dict[str, dict[str, Any]]:
    """Return makers of the peers' ways by label; Fisher labels are drawn for them."""
    from . import factor_peers as peers

    drawn = task.draw()

    def each(
        make: Callable[..., Any], names: tuple[str, ...], *rest: Any, y: Any = task.y
    ) -> dict[str, Any]:
        return {
            name: partial(make, name, task.weights(), task.x, y, *rest)
            for name in names
        }

    torch_ways = ("torch_plain", "torch_tuned")
    hessians = ("pyhessian", "pyhessian_tuned")
    return {
        "W4a sharpness": each(peers.sharpness, torch_ways, SIZE, RHO),
        "W4b 20 HVPs": each(peers.top_eigenvalue, hessians, SIZE, PRODUCTS),
        "W4c Fisher trace": each(
            peers.example_moments, ("backpack", "torch_func"), False, y=drawn
        ),
        "W4d batch cosines": each(peers.batch_cosine, torch_ways, SIZE),
        "W4d m-coherence": each(peers.example_moments, ("torch_func",), True),
    }
