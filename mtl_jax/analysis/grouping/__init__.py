"""Grouping: which tasks should train together, and how well that can be told before.

Predictors say how much an auxiliary task helps a target (`predictors`, from records;
`tabulate`, from anything else), `best_groups` chooses the best models under a budget,
and `ranking` asks the question that matters: how well does each predictor rank the
transfer that was measured?
"""

from mtl_jax.analysis.grouping.choice import choices, scores_of
from mtl_jax.analysis.grouping.cost import costs
from mtl_jax.analysis.grouping.data_maps import (
    co_membership,
    data_map,
    k_means,
    memberships,
)
from mtl_jax.analysis.grouping.inputs import covariance_similarity, overlap
from mtl_jax.analysis.grouping.predictors import PREDICTORS, predictors, tabulate
from mtl_jax.analysis.grouping.ranking import ranking
from mtl_jax.analysis.grouping.search import (
    Grouping,
    all_groups,
    best_groups,
    mean_of_pairs,
)
from mtl_jax.analysis.grouping.transfers import members, transfers

__all__ = [
    "PREDICTORS",
    "Grouping",
    "all_groups",
    "best_groups",
    "choices",
    "co_membership",
    "costs",
    "covariance_similarity",
    "data_map",
    "k_means",
    "mean_of_pairs",
    "members",
    "memberships",
    "overlap",
    "predictors",
    "ranking",
    "scores_of",
    "tabulate",
    "transfers",
]
