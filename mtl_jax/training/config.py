"""Fields of an experiment, all of them, with their defaults and units.

A setting's config starts from here and changes fields; the command line overrides
both: ``--config.steps=500 --config.seeds=0,1``.
"""

from typing import Any

from ml_collections import ConfigDict

from mtl_jax import models, smto
from mtl_jax.metrics import factors
from mtl_jax.storage import workdir
from mtl_jax.training import optimizers
from mtl_jax.types import Config

# Of all methods, and known from the data.
SHARED = ("reduction", "steps_per_epoch", "sizes")


def fields() -> dict[str, Any]:
    """Return all fields by their dotted names, with their defaults."""
    return workdir.flat(default())


def default() -> Config:
    """Return the configuration that all others start from."""
    config: Any = ConfigDict()

    # What is trained: a setting by name, or an import path of a function that makes
    # one, my_module:make_setting.
    config.setting = "digits"
    # single | multi | multi-NAME with an SMTO. Of some of the tasks: single:a,
    # multi:a+b, and with a as the target multi:a/b+c; more in training/groups.py.
    config.variants = ("single", "multi")
    # Random sets of auxiliary tasks, of variants such as multi:a/random.
    config.groups = ConfigDict()
    config.groups.sizes = (1, 4, 9, 19)  # auxiliary tasks of a set
    config.groups.sets = 3  # of a size, or as many different ones as there are
    config.groups.seed = 0
    config.seeds = (0, 1, 2)
    config.learning_rates = (1e-3,)
    # (task, learning rate) of every single run of a seed; if empty, every task at every
    # one of learning_rates.
    config.single_runs = ()
    config.batch_size = 128  # examples per task and step
    # Equal parts of a batch that are computed one after another, in the memory of one:
    # their gradients are averaged, for a forward pass more.
    config.grad_accumulation = 1
    config.steps = 2_000  # the same for single and multi
    config.epochs = 0.0  # passes over the largest task, instead of steps; 0: steps
    # Running training loss (nats) at which training ends before: at the first point of
    # the trajectory where all tasks that count have reached it, in all sound runs; 0:
    # never.
    config.stop_loss = 0.0
    config.probe_size = 2_048  # training examples that everything is measured on
    # Random changes of training images, in the order of the names: flip, crop, scale.
    config.augmentations = ()

    # Data. An empty dir means the default of tensorflow-datasets.
    config.data = ConfigDict()
    config.data.dir = ""
    config.data.source = "auto"  # auto | tfds | files
    config.data.seed = 0  # of splits and probe
    # Whether the data stays on the host and goes to the devices chunk by chunk, with
    # the same results; auto: where it takes more than half of a device's memory.
    config.data.stream = "auto"  # auto | always | never

    # Model: a trunk by name. Options of a trunk stand under its name, model.cnn.hidden;
    # see mtl_jax/models. Sizes are the weights' own where those are given. An option
    # that is itself a trunk (mmoe.encoder) is its name, and takes the options under it.
    config.model = ConfigDict()
    config.model.name = "cnn"
    # Where the trunk starts: a file of torchvision's names, .safetensors, .pth or .pt,
    # for resnet with stem "imagenet" and deeplab; a folder of Hugging Face's for
    # roberta. Empty: drawn anew for every seed.
    config.model.weights = ""
    for name in models.TRUNKS:
        config.model[name] = ConfigDict(models.options(name))

    # Optimizer, the same for all variants: one of optax's by name, with its options
    # under its name, optimizer.adamw.weight_decay. The paper's rate is constant.
    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"
    config.optimizer.schedule = "constant"  # constant | cosine | linear
    config.optimizer.warmup_steps = 0  # in which the rate grows from 0
    config.optimizer.final_fraction = 0.0  # of the rate, at the end of a decay
    config.optimizer.clip_norm = 0.0  # of all gradients together; 0: never clipped
    config.optimizer.decayed = "all"  # by weight decay: all | matrices (no biases)
    for name in optimizers.OPTIMIZERS:
        config.optimizer[name] = ConfigDict(optimizers.options(name))

    # Multi-task optimizers. A name here adds the variant multi-NAME.
    config.smto = ConfigDict()
    config.smto.name = ""
    config.smto.reduction = "sum"  # sum | mean over tasks
    # Heads' gradients times the task's weight? default: yes for loss weightings, no
    # for Gramian ones. weighted | unweighted | default
    config.smto.head_grad = "default"
    # From the gradients of all tasks (jacobian), or without holding them, for a
    # backward pass more (gramian); auto: gramian where they take more than 1 GiB a run.
    config.smto.path = "auto"  # auto | jacobian | gramian
    # Options of a method stand under its name, smto.cagrad.c; an option that is itself
    # a method (cr_mogm.inner) is its name, and takes the options under that name.
    for name in smto.SMTOS:
        options = smto.options(name)
        config.smto[name] = ConfigDict(
            {k: options[k] for k in options if k not in SHARED}
        )

    # Where a trajectory is looked at: every step up to dense, then count log-spaced
    # points, points so many epochs apart (0: none), and the end of the chunk in which
    # the running training loss (nats) of a task first reaches a level: at most
    # config.steps_per_dispatch steps late.
    config.trajectory = ConfigDict()
    config.trajectory.dense = 4
    config.trajectory.count = 20
    config.trajectory.epochs = 0.0
    config.trajectory.loss_levels = ()

    # Where losses and scores are evaluated at those points: probe, train (all training
    # examples of a task), validation, test.
    config.evaluate = ("probe", "validation", "test")

    # Factors: what is measured of every task at those points, on its probe; by default
    # the paper's, and conflict. More of them, and what they cost: docs/factors.md.
    # Options of a factor stand under its name, factors.sharpness.rho; see
    # mtl_jax/metrics/factors.
    config.factors = ConfigDict()
    config.factors.names = (
        "sharpness_and_covariance",
        "fisher_trace",
        "gradient_similarity",
        "conflict",
    )
    for name in factors.FACTORS:
        config.factors[name] = ConfigDict(factors.options(name))

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 500  # steps
    config.checkpoint.keep_last = 2
    # Whether those of step 0 and of all points but levels are kept, too.
    config.checkpoint.keep_points = False

    # Machine. Runs and tasks are mapped, in training and evaluation, together (vmap) or
    # one after another (10 times faster on a CPU). auto: one after another on a CPU;
    # elsewhere runs in waves that fill a device, tasks together.
    config.steps_per_dispatch = 50  # steps per dispatch, at most
    config.eval_batch_size = 128
    # Trackers that get curves while it trains: csv, tensorboard, wandb, trackio.
    config.log = ()
    # Steps of a jax.profiler trace in WORKDIR/profile, START:STOP; empty: none.
    config.profile = ""
    # Devices that share every batch of a run. Runs side by side use devices better: for
    # one big run where there are more devices than runs. Results are equal to rounding.
    config.data_parallel = 1
    # Of passes in training; all else is float32, factors included.
    config.compute_dtype = "float32"  # float32 | bfloat16
    config.run_map = "auto"  # auto | vmap | sequential
    config.task_map = "auto"  # auto | vmap | sequential
    return config
