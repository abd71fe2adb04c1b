"""Grids: every candidate is tried once, every variant has as many."""

from collections import Counter

import pandas as pd
import pytest

from mtl_jax.studies import grid
from mtl_jax.training import variants
from mtl_jax.types import InputError
from tests import tiny_study
from tests.tiny_study import TASKS

RATES, SIZES = (1e-1, 1e-2, 1e-3, 1e-4), (8, 16, 32)


def config(**changes):
    names = ("single", "multi", "multi-cagrad", "multi-mgda-ub")
    shape = {"grid__learning_rates": RATES, "grid__batch_sizes": SIZES}
    return tiny_study.config(base__variants=names, **shape, **changes)


def candidates(trials):
    return [
        (trial.variant, rate, trial.config.batch_size)
        for trial in trials
        for rate in trial.config.learning_rates
    ]


def test_every_variant_tries_every_candidate_once():
    trials = grid.sweep(config(), TASKS)
    tried = candidates(trials)
    names = {trial.variant for trial in trials}
    assert names == {"single", "multi", "multi-cagrad", "multi-mgda-ub"}
    expected = {(n, rate, size) for n in names for rate in RATES for size in SIZES}
    assert set(tried) == expected and len(tried) == len(expected)
    assert len({trial.name for trial in trials}) == len(trials)


def test_options_are_spread_evenly():
    trials = grid.sweep(config(), TASKS)
    cagrad = [trial for trial in trials if trial.variant == "multi-cagrad"]
    assert {trial.config.smto.cagrad.c for trial in cagrad} == {0.2, 0.4, 0.8}
    cells = [(trial.options["c"], rate) for trial in cagrad
             for rate in trial.config.learning_rates]  # fmt: skip
    assert set(Counter(cells).values()) == {1}  # every value with every rate, once
    at_representation = [trial for trial in trials if trial.variant == "multi-mgda-ub"]
    assert {trial.config.smto.mgda.normaliser for trial in at_representation} == {
        *("none", "l2", "loss+")
    }


def test_every_candidate_is_tried_with_every_optimizer():
    names = ("sgd", "momentum", "adam")
    trials = grid.sweep(config(grid__optimizers=names), TASKS)
    assert len({trial.name for trial in trials}) == len(trials)
    alone = candidates(grid.sweep(config(), TASKS))
    for name in names:
        of_optimizer = [t for t in trials if t.config.optimizer.name == name]
        assert Counter(candidates(of_optimizer)) == Counter(alone)
        assert all(name in trial.name.split("-") for trial in of_optimizer)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ((), "grid.optimizers is empty; name at least one"),
        (("adam", "momentun"), "'momentun' is not one of: .*mean 'momentum'"),
        (("adam,adam",), "grid.optimizers 'adam' is named twice"),
    ],
)
def test_optimizers_that_are_none(names, match):
    with pytest.raises(InputError, match=match):
        grid.sweep(config(grid__optimizers=names), TASKS)


def test_a_sweep_looks_at_validation_only():
    for trial in grid.sweep(config(), TASKS):
        assert trial.config.evaluate == ("validation",)
        assert trial.config.factors.names == ()
        assert trial.config.seeds == (0,)
        assert trial.config.variants == (trial.variant,)


def test_cost_counts_the_examples_of_all_tasks():
    trials = grid.sweep(config(), TASKS)
    assert sum(trial.cost for trial in trials if trial.variant == "single") == (
        12 * sum(SIZES) * len(RATES) * len(TASKS)
    )
    assert [trial.cost for trial in trials] == sorted(trial.cost for trial in trials)


def test_what_was_chosen_is_trained_with_its_options():
    study = config(grid__optimizers=("momentum", "adam"))
    rows = [
        ("single", "digits_0", 1e-2, 8, ""),
        ("single", "digits_1", 1e-2, 8, ""),
        ("single", "digits_2", 1e-3, 16, ""),
        ("multi-cagrad", "digits_0", 1e-2, 8, "c=0.4"),
        ("multi-cagrad", "digits_1", 1e-2, 8, "c=0.4"),
        ("multi-cagrad", "digits_2", 1e-4, 8, "c=0.2"),
    ]
    columns = ["variant", "task", "learning_rate", "batch_size", "options"]
    chosen = pd.DataFrame(rows, columns=columns)
    chosen["optimizer"] = "momentum"
    trained = {trial.name: trial for trial in grid.final(study, TASKS, chosen)}
    cagrad = [f"multi-cagrad-c{c}-momentum-b8" for c in (0.4, 0.2)]
    assert set(trained) == {"single-momentum-b8", "single-momentum-b16", *cagrad}
    assert {t.config.optimizer.name for t in trained.values()} == {"momentum"}
    single = trained["single-momentum-b8"].config
    assert single.single_runs == (("digits_0", 1e-2), ("digits_1", 1e-2))
    runs = variants.make("single", single, TASKS, [100] * len(TASKS))
    assert runs.task_ids.tolist() == [[0], [1]] * 2
    joint = trained[cagrad[0]].config
    assert joint.learning_rates == (1e-2,) and joint.smto.cagrad.c == 0.4
    assert joint.seeds == (1, 2)
    assert joint.evaluate == ("probe", "validation", "test")
    assert trained[cagrad[1]].config.learning_rates == (1e-4,)


def test_groups_of_a_method_are_tried_and_trained_together():
    names = ("single:digits_0+digits_1", "multi:digits_0/each", "multi")
    shape = {"grid__learning_rates": RATES, "grid__batch_sizes": (8, 16)}
    study = tiny_study.config(base__variants=names, **shape)
    groups = ("multi:digits_0/digits_1", "multi:digits_0/digits_2")
    single = ("single:digits_0", "single:digits_1")
    tried = {trial.config.variants for trial in grid.sweep(study, TASKS)}
    assert tried == {single, groups, ("multi",)}
    rows = [
        ("single", "digits_0", 1e-2, 8),
        ("single", "digits_1", 1e-3, 8),
        (groups[0], "digits_0", 1e-2, 8),
        (groups[1], "digits_0", 1e-2, 8),
    ]
    columns = ["variant", "task", "learning_rate", "batch_size"]

    def trained():
        chosen = pd.DataFrame(rows, columns=columns)
        chosen = chosen.assign(optimizer="adam", options="")
        return grid.final(study, TASKS, chosen)

    trials = trained()
    assert [trial.config.variants for trial in trials] == [single, groups]
    assert trials[0].config.single_runs == (("digits_0", 1e-2), ("digits_1", 1e-3))
    rows[-1] = (groups[1], "digits_0", 1e-3, 8)
    apart = trained()
    assert [trial.config.variants for trial in apart[1:]] == [groups[:1], groups[1:]]
    assert len({trial.name for trial in apart}) == 3


def test_one_candidate_needs_no_sweep():
    names = ("single", "multi:digits_0/each")
    shape = {"grid__learning_rates": (1e-2,), "grid__batch_sizes": (8,)}
    study = tiny_study.config(base__variants=names, grid__optimizers=("adam",), **shape)
    assert grid.sweep(study, TASKS) == []
    table = grid.only(study, TASKS)
    assert table["task"].tolist() == [*TASKS, "", ""] and table["chosen"].all()
    single, groups = grid.final(study, TASKS, table)
    assert single.config.single_runs == tuple((task, 1e-2) for task in TASKS)
    assert len(groups.config.variants) == 2 and groups.config.batch_size == 8


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"grid.options.cagrad.c": ()}, "cagrad has 0 combinations"),
        (
            {"grid.options.cagrad.c": tuple(range(7))},
            "cagrad has 7 combinations; a grid of 4 .* 3 .* tries 1 to 6",
        ),
    ],
)
def test_options_that_do_not_fit(options, match):
    study = config()
    study.update_from_flattened_dict(options)
    with pytest.raises(InputError, match=match):
        grid.sweep(study, TASKS)


@pytest.mark.parametrize(
    ("option", "values", "match"),
    [
        ("cagrad.c", ("0.2,x",), "cagrad.c are .*'x' is unfit: name numbers"),
        ("cagrad.c", (True,), "cagrad.c are .*True is unfit: name numbers"),
        ("cagrad.rescale", (0.5,), "rescale are .*0.5 is unfit: name whole numbers"),
        ("cagrad.c", (0.2, 0.2), "cagrad.c are .*0.2 is there twice"),
        ("mgda.normaliser", (1,), "normaliser 1 is no name"),
    ],
)
def test_values_of_options_that_are_none(option, values, match):
    study = config()
    study.update_from_flattened_dict({f"grid.options.{option}": values})
    with pytest.raises(InputError, match=match):
        grid.check_options(study)


def test_names_without_quotes_are_several_values():
    study = config()
    study.base.variants = ("multi-mgda",)
    study.grid.options.mgda.normaliser = ("none,l2",)
    tried = grid.combinations(study, "multi-mgda")
    assert tried == [{"normaliser": "none"}, {"normaliser": "l2"}]


def test_options_of_nothing():
    study = config()
    study.grid.options.nonsense = {"c": (1,)}
    with pytest.raises(InputError, match="options 'nonsense' is not one of: sum, "):
        grid.check_options(study)
    study = config()
    study.grid.options.cagrad.d = (1,)
    with pytest.raises(InputError, match="options.cagrad 'd' is not one of: c, resc"):
        grid.check_options(study)
