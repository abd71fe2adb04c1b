"""Programs compiled ahead of time: for devices that are not here, from shapes alone."""

import importlib
import json
import math
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np
import pytest

from mtl_jax.data import LOADERS, stand_in
from mtl_jax.devices import flops, hlo, memory, target
from mtl_jax.report import preview_table
from mtl_jax.training import ahead
from mtl_jax.training.compile import init_states, state_shapes
from mtl_jax.types import InputError
from tests import small

TINY: dict[str, Any] = {
    "variants": ("multi",),
    "factors.names": ("fisher_trace", "conflict"),
    "model.resnet.widths": (4, 8),
    "model.resnet.blocks": (1, 1),
    "model.deeplab.widths": (2, 2, 4, 4),
    "model.deeplab.blocks": (1, 1, 1, 1),
    "model.deeplab.channels": 4,
    "model.deeplab.rates": (1, 2),
    "model.roberta.width": 8,
    "model.roberta.layers": 1,
    "model.roberta.heads": 2,
    "model.roberta.hidden": 8,
    "model.roberta.vocabulary": 320,
}
"""Models small enough to trace in a moment, on data at full size."""
COMPILERS = {"v5e:2x2": "libtpu", "h200": "jax_plugins.xla_cuda13"}
HERE = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec(package.split(".")[0]),
                                                reason=f"no {package}"))
    for name, package in COMPILERS.items()
]  # fmt: skip


def config(setting: str, **changes: Any) -> Any:
    found = importlib.import_module(f"configs.{setting}").get_config()
    found.update_from_flattened_dict({**TINY, **changes})
    return found


@pytest.mark.parametrize("setting", stand_in.STAND_INS)
def test_programs_of_every_setting_are_traced_without_its_data(setting):
    own = config(setting, **{"factors.names": (), "seeds": (0,)})
    made = ahead.experiment(own, target.make("cpu"))
    pieces, held = ahead.pieces(made)
    assert {piece.unit for piece in pieces} == {"step", "evaluation"}
    assert held["data"] >= made.setting.data.x.nbytes
    assert flops.count(pieces[-1].trace().jaxpr) > 0


def test_stand_ins_are_what_loaders_make():
    """Of data that needs no files, and of that whose loaders know its sizes."""
    assert stand_in.STAND_INS.keys() < LOADERS.keys()
    for name, sizes in (("fashion_mtl", (25_000, 5_000, 5_000)), ("glue", None)):
        made = stand_in.dataset(name)
        assert made and made.x.strides[0] == 0  # no memory
        rows = np.concatenate([r for parts in made.rows.values() for r in parts])
        np.testing.assert_array_equal(np.sort(rows), np.arange(len(made.x)))
        if sizes:
            assert tuple(len(parts[0]) for parts in made.rows.values()) == sizes
    assert stand_in.dataset("digits") is None


@pytest.fixture(scope="module")
def found():
    made = ahead.experiment(small.config({}), target.make("cpu"))
    return made, ahead.preview(made)


def test_shapes_of_states_are_those_of_states(found):
    made, _ = found
    for variant in made.variants:
        shapes = jax.tree.map(np.shape, state_shapes(made.setting, variant))
        states = jax.tree.map(np.shape, init_states(made.setting, variant))
        assert shapes == states


def test_costs_are_those_of_the_programs(found):
    made, preview = found
    training = [cost for cost in preview.costs if cost.unit == "step"]
    assert [cost.name for cost in training] == ["training single", "training multi"]
    widths = [64, *made.config.model.mlp.widths]
    trunk = sum(a * b for a, b in zip(widths, widths[1:], strict=False))
    # Forward, and backward to weights and, but for the images, to inputs.
    macs = 3 * (trunk + widths[-1] * 10) - widths[0] * widths[1]
    for cost, variant in zip(training, made.variants, strict=True):
        runs, tasks = variant.task_ids.shape
        on_device = -(-runs // len(jax.devices()))
        examples = made.config.batch_size * on_device * tasks
        assert cost.flops == pytest.approx(2 * macs * examples, rel=0.2)
    assert all(cost.kernels > 0 and cost.arguments > 0 for cost in preview.costs)
    assert all(cost.host == 0 and not cost.collectives for cost in preview.costs)
    assert preview.seconds == 0  # nobody knows the machine
    assert preview.needed < preview.capacity == memory.capacity()


def test_every_variant_is_evaluated_at_every_point_once():
    """Of as many tasks, but not as many runs, which are two programs."""
    names = "multi:digits_0+digits_1", "multi:digits_0+digits_2"
    changes = {"variants": (*names, "multi-pcgrad:digits_0+digits_1")}
    made = ahead.experiment(
        small.config({**changes, "factors.names": ()}), target.make("cpu")
    )
    times = [p.times for p in ahead.pieces(made)[0] if p.unit == "evaluation"]
    assert times == [len(made.points)] * 2


def test_it_is_printed_and_is_json(found):
    _, preview = found
    text = "\n".join(preview_table.words(preview))
    assert "fits" in text and "between devices, a step: nothing" in text
    assert "at least" not in text
    rows = preview_table.table(preview).row_count
    assert rows == len(preview.costs)
    again = json.loads(json.dumps(preview_table.as_json(preview)))
    assert [program["name"] for program in again["programs"]] == [
        cost.name for cost in preview.costs
    ]
    tiny = preview._replace(
        target=preview.target._replace(chip=target.Chip(1, 1, 1, 1))
    )
    assert "DOES NOT FIT" in preview_table.words(tiny)[0]
    assert "seeds" in preview_table.words(tiny)[1]


@pytest.mark.parametrize("name", HERE)
def test_programs_of_a_small_experiment_for_devices_that_are_elsewhere(name):
    """No kernel talks to the host, and runs that lie side by side do not talk."""
    own = config("fashion_mtl", **{"seeds": (0, 1, 2, 3), "factors.names": ()})
    made = ahead.experiment(own, target.make(name))
    assert made.target.devices[0] not in jax.devices()
    preview = ahead.preview(made)
    for cost in preview.costs:
        assert not cost.error and cost.host == 0 and not cost.collectives, cost
        assert cost.seconds > 0 and cost.products > 0
    assert preview.seconds > 0 and preview.needed < preview.capacity
    (training,) = (cost for cost in preview.costs if cost.unit == "step")
    # Copies and transposes: an axis of tasks beside that of examples made a sixth.
    assert training.rearranged < 0.05 * training.bytes


WIDE = {
    "mlp": {"model.name": "mlp", "model.mlp.widths": (512, 512)},
    # A convolution wants a layout of its own for its kernel, but not of all runs.
    "resnet": {"model.name": "resnet", "model.resnet.widths": (128,)},
}


@pytest.mark.parametrize("model", WIDE)
@pytest.mark.parametrize("name", HERE)
def test_states_of_runs_one_by_one_are_there_once(name, model):
    changes = {"seeds": tuple(range(8)), "batch_size": 4, "run_map": "sequential"}
    changes |= {"variants": ("single",), "factors.names": (), **WIDE[model]}
    own = config("cifar100", **{**changes, "model.resnet.blocks": (1,)})
    preview = ahead.preview(ahead.experiment(own, target.make(name)))
    (training,) = (cost for cost in preview.costs if cost.unit == "step")
    states = preview.held["states"]
    assert training.temporaries < states / 3, (training.temporaries, states)


FOUR = {"h200": "h200:4", "v5e:2x2": "v5e:2x2"}


@pytest.mark.parametrize("name", HERE)
def test_devices_that_share_a_batch_send_its_gradients_and_no_data(name):
    """The gradient of a sum; of methods that look at them, one a task."""
    changes = {"variants": ("multi", "multi-pcgrad"), "data_parallel": 4}
    own = small.config({**changes, "seeds": (0,), "batch_size": 64})
    own.factors.names = ()
    made = ahead.experiment(own, target.make(FOUR[name]))
    preview = ahead.preview(made)
    state = state_shapes(made.setting, made.variants[0])
    trunk, heads = map(memory.size, state.params)
    tasks = made.variants[0].task_ids.shape[1]
    losses = 4 * tasks
    moved = {cost.name: cost.collectives for cost in preview.costs}
    assert moved["training multi"]["all-reduce"] == trunk + heads + losses
    of_tasks = moved["training multi-pcgrad"]["all-reduce"]
    assert of_tasks < 1.05 * (tasks * trunk + heads + losses)
    small_parts = [
        sum(sizes.values()) - sizes["all-reduce"] for sizes in moved.values()
    ]
    assert max(small_parts) < preview.held["data"] / 20


def test_the_command(tmp_path):
    """Compiles, prints, writes; and says at once where it cannot write."""
    command = [sys.executable, "-m", "experiments.compile", "--target=cpu"]
    command += ["--config=configs/digits.py", "--config.factors.names=()"]

    def run(file):
        return subprocess.run(
            [*command, f"--json={file}"], cwd=small.ROOT, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip

    done = run(tmp_path / "costs.json")
    assert done.returncode == 0, done.stderr
    assert "training multi" in done.stdout and "fits" in done.stdout
    written = json.loads((tmp_path / "costs.json").read_text())
    assert len(written["programs"]) == 4 and written["steps"] == 600
    done = run(tmp_path / "none" / "costs.json")
    assert done.returncode == 2 and "there is no folder" in done.stderr
    assert "compiled" not in done.stdout


def test_targets_that_are_none():
    with pytest.raises(InputError, match="'v4' is not one of"):
        target.make("v4:2x2")
    if find_spec("jax_plugins"):
        with pytest.raises(InputError, match="target is 'h200:many'; write cpu"):
            target.make("h200:many")
    if find_spec("libtpu"):
        with pytest.raises(InputError, match="does not know"):
            target.make("v5e:3x5")


def read(f, *args, **options):
    compiled = jax.jit(f).lower(*args).compile()
    return hlo.kernels(compiled.as_text(), **options)


def test_kernels_of_loops_and_choices():
    x = np.ones((16, 16), np.float32)

    def loops(x, n):
        inner = lambda _, y: jax.lax.fori_loop(0, 5, lambda _, z: z @ x, y)  # noqa: E731
        return jax.lax.fori_loop(0, n, inner, x)

    products = [kernel for kernel in read(loops, x, 3) if kernel.is_product]
    assert [(k.times, k.in_open_loop) for k in products] == [(5, True)]
    assert products[0].bytes == 3 * x.nbytes

    def choice(x, n):
        return jax.lax.cond(n > 0, lambda: x @ x @ x, lambda: x)

    for choose, count in ((max, 2), (min, 0)):
        assert sum(k.is_product for k in read(choice, x, 1, choose=choose)) == count
    jaxpr = jax.make_jaxpr(choice)(x, 1)
    assert flops.count(jaxpr) == 2 * 2 * 16**3 and flops.count(jaxpr, min) == 0


def test_pieces_of_an_array_count_as_what_is_read():
    pool = np.ones((1000, 256), np.float32)
    (kernel,) = (k for k in read(lambda pool, i: pool[i] * 2, pool, 3) if k.bytes > 64)
    assert kernel.bytes < 4 * 256 * 4


def test_flops_of_convolutions_are_those_of_dense_products():
    x, kernel = np.ones((2, 8, 8, 3), np.float32), np.ones((3, 3, 3, 5), np.float32)

    def f(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert flops.count(jax.make_jaxpr(f)(x, kernel)) == 2 * math.prod(
        (2, 6, 6, 5, 3, 3, 3)
    )


def test_reasons_of_a_compiler_name_the_bytes():
    text = "RESOURCE_EXHAUSTED: ... Used 20.5G of 15.75G hbm. Exceeded by 4.75G."
    assert ahead.reason(text) == ("needs 20.5 GiB at once, of 15.75 GiB", 22011707392)
    assert ahead.reason("what\nelse") == ("what", 0)
