"""Multi-task optimizers: from the tasks' losses and gradients to one direction.

>>> make("cagrad", c=0.2, reduction="mean").init(3)
()
"""

from collections.abc import Callable
from typing import Any

from mtl_jax.options import check_options, defaults
from mtl_jax.smto.aligned_mtl import aligned_mtl
from mtl_jax.smto.auto_lambda import auto_lambda
from mtl_jax.smto.cagrad import cagrad
from mtl_jax.smto.config import config
from mtl_jax.smto.contract import (
    Aggregate,
    Aggregator,
    Cotangent,
    CrossWeighting,
    GramianWeighting,
    LossWeighting,
    Method,
    Perturbation,
    Perturbed,
    PreferenceSampler,
    Regularizer,
    Rotation,
)
from mtl_jax.smto.cosmos import cosmos
from mtl_jax.smto.cr_mogm import cr_mogm
from mtl_jax.smto.dbmtl import dbmtl
from mtl_jax.smto.dualproj import dualproj
from mtl_jax.smto.dwa import dwa
from mtl_jax.smto.excessmtl import excessmtl
from mtl_jax.smto.fairgrad import fairgrad
from mtl_jax.smto.famo import famo
from mtl_jax.smto.finetune import finetune
from mtl_jax.smto.fmtl import fmtl
from mtl_jax.smto.gls import gls
from mtl_jax.smto.graddrop import graddrop, graddrop_rep
from mtl_jax.smto.gradnorm import gradnorm
from mtl_jax.smto.gradvac import gradvac
from mtl_jax.smto.igb import igb
from mtl_jax.smto.imtl_g import imtl_g
from mtl_jax.smto.imtl_l import imtl_l
from mtl_jax.smto.lift import Smto, SmtoState, lift
from mtl_jax.smto.mgda import mgda
from mtl_jax.smto.moco import moco
from mtl_jax.smto.modo import modo
from mtl_jax.smto.momentum_config import momentum_config
from mtl_jax.smto.nash_mtl import nash_mtl
from mtl_jax.smto.palora import palora
from mtl_jax.smto.pbi import pbi
from mtl_jax.smto.pcd import pcd
from mtl_jax.smto.pcgrad import pcgrad
from mtl_jax.smto.repmtl import repmtl
from mtl_jax.smto.reweighted import imtl, reweighted
from mtl_jax.smto.rlw import rlw
from mtl_jax.smto.rotograd import rotograd
from mtl_jax.smto.samo import samo
from mtl_jax.smto.sampled import sampled
from mtl_jax.smto.scalarization import fixed, mean, unitary
from mtl_jax.smto.sdmgrad import sdmgrad
from mtl_jax.smto.si import si
from mtl_jax.smto.solvers.solution import TOLERANCE, Solution
from mtl_jax.smto.stch import stch
from mtl_jax.smto.tchebycheff import tchebycheff
from mtl_jax.smto.upgrad import upgrad
from mtl_jax.smto.uw import uw

SMTOS: dict[str, Callable[..., Method]] = {
    # of losses
    "sum": unitary,
    "mean": mean,
    "fixed": fixed,
    "sampled": sampled,
    "finetune": finetune,
    "si": si,
    "rlw": rlw,
    "dwa": dwa,
    "uw": uw,
    "imtl_l": imtl_l,
    "gls": gls,
    "famo": famo,
    "stch": stch,
    "igb": igb,
    "tchebycheff": tchebycheff,
    "cosmos": cosmos,
    "pbi": pbi,
    # of gradients' lengths
    "gradnorm": gradnorm,
    "dbmtl": dbmtl,  # smoothed over time, unless beta is 0
    # of their Gramian
    "mgda": mgda,
    "pcgrad": pcgrad,
    "gradvac": gradvac,
    "cagrad": cagrad,
    "imtl_g": imtl_g,
    "imtl": imtl,
    "nash_mtl": nash_mtl,
    "fairgrad": fairgrad,
    "aligned_mtl": aligned_mtl,
    "upgrad": upgrad,
    "dualproj": dualproj,
    "pcd": pcd,
    "config": config,
    "cr_mogm": cr_mogm,
    "reweighted": reweighted,
    # of independent batches
    "sdmgrad": sdmgrad,
    "modo": modo,
    "auto_lambda": auto_lambda,
    # over time
    "moco": moco,
    "momentum_config": momentum_config,
    # coordinate by coordinate
    "graddrop": graddrop,
    "graddrop_rep": graddrop_rep,
    "excessmtl": excessmtl,
    # of gradients at other points
    "fmtl": fmtl,
    "samo": samo,
    # of gradients at the representation
    "rotograd": rotograd,
    "repmtl": repmtl,
    # of one model at many preferences
    "palora": palora,
}
"""Factories of all methods by name."""

NESTED = ("inner", "losses")
"""Options whose value is another method, or its name."""


def options(name: str) -> dict[str, Any]:
    """Return the options of a method and their defaults.

    >>> options("cagrad")
    {'c': 0.4, 'rescale': 1, 'reduction': 'sum'}

    Raises:
      InputError: unknown method.
    """
    return defaults("SMTO", name, SMTOS)


def make(name: str, **chosen: Any) -> Method:
    """Make a multi-task optimizer by name; options are those of its factory.

    A number may be one of NumPy or JAX, and a traced one, too, which is not checked:
    `jax.vmap` runs over an option, and `optax.inject_hyperparams` schedules it. What
    the program depends on has to be known: names, ``rescale``, ``tasks_per_step``.

    Where an option is a method, its name stands for it with its own defaults:

    >>> by_name = make("cr_mogm", inner="cagrad")
    >>> with_options = make("cr_mogm", inner=make("cagrad", c=0.2))

    Raises:
      InputError: unknown method or option, or a value out of its range.
    """
    known = options(name)
    check_options(name, chosen, known)
    nested = {
        option: {**known, **chosen}[option] for option in NESTED if option in known
    }
    for option, value in nested.items():
        chosen[option] = make(value) if isinstance(value, str) else value
    return SMTOS[name](**chosen)


__all__ = [
    "SMTOS",
    "TOLERANCE",
    "Aggregate",
    "Aggregator",
    "Cotangent",
    "CrossWeighting",
    "GramianWeighting",
    "LossWeighting",
    "Method",
    "Perturbation",
    "Perturbed",
    "PreferenceSampler",
    "Regularizer",
    "Rotation",
    "Smto",
    "SmtoState",
    "Solution",
    "lift",
    "make",
    "options",
]
