"""JAX without silent broadcasting, on the CPU unless JAX_PLATFORMS says otherwise."""

import gc
import os

import jax
import pytest

# Half of the suite's time would be LLVM's optimization of programs that run for
# milliseconds, a third of the rest XLA's newer way to write fused loops, and a seventh
# of what is left programs cut into pieces for cores that other workers have; the
# programs stay the same. Read when JAX first compiles; XLA ends the process for a flag
# that it does not know.
FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if jax.__version_info__ < (0, 12):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))

jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_num_cpu_devices", 2)  # runs are spread over them
jax.config.update("jax_numpy_rank_promotion", "raise")
# Strict dtype promotion would be good too, but optax.adam does not bear it.


# Files that take a minute or more, the longest first: none is left to one worker at the
# end.
LONG = (
    "test_vision",
    "test_resume",
    "test_report",
    "test_ray_engine",
    "test_factor_programs",
    "test_loop",
    "test_common",
    "test_bad_input",
)
LONG += ("test_compile", "test_resnet", "test_solvers", "test_strategies")
LONG += (
    "test_study",
    "test_multihost",
    "test_run_axis",
    "test_glue_run",
    "test_roberta",
)
LONG += ("test_precision", "test_residuals", "test_faults", "test_wrappers")
LONG += ("test_options", "test_numbers", "test_tuning", "test_prolong", "test_trackers")
LONG += ("test_search", "test_slurm_engine")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: [*LONG, item.path.stem].index(item.path.stem))


def pytest_collection_finish():
    """Leave modules and tests to no collector: it would walk them at every tracing."""
    gc.collect()
    gc.freeze()


# Files that call the same programs, of tests/smto/cases.py: one worker has them all.
TOGETHER = {
    f"tests/smto/test_{name}.py"
    for name in ("common", "precision", "closed_forms", "state", "parity")
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a worker a file at a time, or all of `TOGETHER`."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "together" if file in TOGETHER else file

    return Scheduling(config, log)


@pytest.fixture(scope="module", autouse=True)
def forget(request):
    """What a file compiled: gigabytes otherwise, which the garbage collector walks."""
    yield
    if request.node.nodeid not in TOGETHER:
        jax.clear_caches()


@pytest.fixture
def key():
    return jax.random.key(0)
