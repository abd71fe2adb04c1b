"""Grouping: planted truths, searches against brute force, formulas densely."""

import itertools

import numpy as np
import pandas as pd
import pytest

from mtl_jax.analysis.correlation import rank_correlation
from mtl_jax.analysis.grouping import (
    all_groups,
    best_groups,
    choices,
    co_membership,
    covariance_similarity,
    data_map,
    k_means,
    mean_of_pairs,
    memberships,
    overlap,
    predictors,
    ranking,
    tabulate,
    transfers,
)
from mtl_jax.analysis.grouping.ranking import (
    Units,
    orders,
    rank,
    rhos,
    rounded,
    score,
)
from mtl_jax.types import InputError
from tests.analysis.group_records import COUNT, PAIRS, TASKS, TRIPLES, effects, records


def of(table, predictor, measured="score", over="groups", target=""):
    index = ["predictor", "measured", "over", "target"]
    return table.set_index(index).loc[predictor, measured, over, target]


def perfect(groups, targets=COUNT):
    """Rho of a perfect order of so many groups of a target."""
    order = np.tile(np.arange(groups), targets)
    return rank_correlation(order, order, np.repeat(range(targets), groups)).value


def test_transfers_are_percent_of_alone_and_better_upwards():
    pairs = effects()
    df = records(pairs, PAIRS)
    table = transfers(df).set_index(["target", "group", "seed"])["value"]
    assert table["a", "a+b", 1] == pytest.approx(pairs[0, 1])
    assert table["b", "a+b", 1] == pytest.approx(pairs[1, 0])
    together = table["a", "+".join(TASKS), 0]
    assert together == pytest.approx(pairs[0, 1:].mean())
    losses = transfers(df, "loss").set_index(["target", "group", "seed"])["value"]
    assert losses["a", "a+b", 1] == pytest.approx(pairs[0, 1])  # of .5, too


def test_a_target_and_its_auxiliaries_are_that_group_for_the_target_alone():
    df = records(effects(), PAIRS)
    aimed = df.assign(
        variant=df["variant"].str.replace("+", "/"),
        group=df["group"].str.replace("+", "/"),
        target=df["group"].str.partition("+")[0],
    )
    whole, part = transfers(df), transfers(aimed)
    assert set(part["target"] + part["group"]) < set(whole["target"] + whole["group"])
    merged = part.merge(whole, on=["setting", "group", "target", "seed"])
    np.testing.assert_allclose(merged["value_x"], merged["value_y"])


def test_hoa_ranks_groups_of_additive_effects_exactly():
    table = ranking(records(effects(), [*PAIRS, *TRIPLES]))
    for measured in ("score", "loss"):
        row = of(table, "hoa", measured)
        assert row["value"] == pytest.approx(perfect(7))
        assert row["units"] == 3 * len(TRIPLES) + COUNT and row["targets"] == COUNT
        assert 0.5 < row["low"] < row["high"] <= 1
        assert row["p"] == pytest.approx(1 / 120)
        alone = of(table, "hoa", measured, target="b")
        assert alone["value"] == pytest.approx(perfect(7, 1))
    assert of(table, "other seeds")["value"] == pytest.approx(perfect(7))


def test_what_says_nothing_has_an_interval_around_0():
    """Worst case: a task helps all targets alike, so tasks are the units."""
    helpful, inside = np.random.default_rng(3), []
    for study in range(60):
        pairs = np.tile(helpful.normal(size=COUNT), (COUNT, 1))
        random = np.tile(helpful.normal(size=COUNT), (COUNT, 1))
        off = ~np.eye(COUNT, dtype=bool)
        targets, others = np.nonzero(off)
        pair = np.eye(COUNT, dtype=bool)[targets] | np.eye(COUNT, dtype=bool)[others]
        ranked = rank(random, Units(targets, pair, pairs[off])).correlation
        naive = rank_correlation(random[off], pairs[off], targets)
        inside.append((ranked.low < 0 < ranked.high, naive.low < 0 < naive.high))
        del study
    kept, lost = np.mean(inside, axis=0)
    assert kept >= 0.85 and lost < 0.8  # as if units were independent


def test_exchanged_tasks_are_ranked_as_the_house_ranks():
    rng = np.random.default_rng(0)
    pairs, values = rng.normal(size=(COUNT, COUNT)), rng.normal(size=3 * len(TRIPLES))
    targets = np.array([task for group in TRIPLES for task in group])
    inside = np.zeros((len(targets), COUNT), bool)
    for row, (group, _) in enumerate((g, task) for g in TRIPLES for task in g):
        inside[row, list(group)] = True
    units = Units(targets, inside, values)
    shuffled = np.array([pairs[np.ix_(order, order)] for order in orders(COUNT)])
    fast = rhos(score(shuffled, units), values, targets)
    slow = [
        rank_correlation(score(each, units), values, targets).value for each in shuffled
    ]
    np.testing.assert_allclose(
        fast, slow, atol=1e-3
    )  # a perfect order is half a swap less


def test_affinity_is_of_the_step_on_the_auxiliary():
    matrix = effects()
    df = records(matrix, PAIRS, factor=[("affinity", matrix.T)])
    table = ranking(df)
    assert of(table, "tag", over="pairs")["value"] == pytest.approx(perfect(4))
    wrong = ranking(records(matrix, PAIRS, factor=[("affinity", matrix)]))
    assert of(wrong, "tag", over="pairs")["value"] < 0.7
    row = of(table, "tag", over="pairs")
    assert (row["runs"], row["task_steps"], row["looks"]) == (1, 5 * 10, 1)
    row = of(table, "hoa", over="pairs")
    assert (row["runs"], row["task_steps"], row["looks"]) == (15, 10 * (5 + 20), 0)


def test_values_are_averaged_over_training_not_over_points():
    df = records(effects(), [], factor=[("cosine", np.ones((COUNT, COUNT)))])
    rows = df[df["name"].str.startswith("cosine")]
    early = [rows.assign(step=step, value=0.0) for step in (0, 1, 2)]
    table = predictors(pd.concat([df, *early]))
    # 0 up to step 2, from there a line to 1 at step 10.
    np.testing.assert_allclose(table["value"], 0.5 * 8 / 10)


def test_predictors_of_data_join():
    pairs = effects()
    df = records(pairs, [*PAIRS, *TRIPLES])
    data = tabulate(pairs, TASKS, "cka", "s")
    table = ranking(df, data)
    assert of(table, "cka")["value"] == pytest.approx(perfect(7))
    assert of(table, "cka")["runs"] == of(table, "cka")["task_steps"] == 0
    flat = ranking(df, tabulate(np.ones((COUNT, COUNT)), TASKS, "cka", "s"))
    row = of(flat, "cka")
    assert np.isnan(row["value"]) and "all alike" in row["reason"]
    with pytest.raises(
        InputError, match=r"cka is of shape \(2, 2\).*5 tasks.*\[T, T\]"
    ):
        tabulate(np.ones((2, 2)), TASKS, "cka", "s")


def test_too_few_groups_are_said():
    df = records(effects(), [(0, 1), (0, 2), (1, 2)])
    row = of(ranking(df), "hoa", over="pairs")
    assert np.isnan(row["value"]) and "at most 2 such groups" in row["reason"]
    alone = of(ranking(df), "other seeds", over="groups")
    assert np.isnan(alone["value"]) and "1 such group," in alone["reason"]


def brute(scores, groups, budget, costs):
    """Best mean score over all sets of groups within a budget."""
    best = -np.inf
    known = np.where(np.isfinite(scores), scores, -np.inf)
    for models in range(1, len(scores) + 1):
        for chosen in itertools.combinations(range(len(groups)), models):
            if sum(costs[len(groups[g]) - 1] for g in chosen) <= budget:
                best = max(best, known[:, list(chosen)].max(axis=1).mean())
    return best


@pytest.mark.parametrize("budget", [1, 2, 3, 5])
@pytest.mark.parametrize("costs", [None, [1, 2, 3, 4], [2, 2, 3, 3]])
def test_search_is_exact(budget, costs):
    rng = np.random.default_rng(budget)
    count = 4
    groups = all_groups(count)
    scores = rng.normal(size=(count, len(groups)))
    inside = np.array([[task in group for group in groups] for task in range(count)])
    scores = np.where(inside & (rng.random(scores.shape) < 0.8), scores, np.nan)
    scores[:, -1] = rng.normal(size=count) - 2  # all together is known
    value = brute(scores, groups, budget, costs or [1] * count)
    if not np.isfinite(value):
        with pytest.raises(InputError, match=f"within a budget of {budget}; raise it"):
            best_groups(scores, groups, budget, costs)
        return
    chosen = best_groups(scores, groups, budget, costs)
    assert chosen.score == pytest.approx(value)
    assert sorted(t for served in chosen.serves for t in served) == [*range(count)]
    spent = sum((costs or [1] * count)[len(group) - 1] for group in chosen.groups)
    assert spent <= budget
    means = [
        scores[task, groups.index(group)]
        for group, served in zip(chosen.groups, chosen.serves, strict=True)
        for task in served
    ]
    assert chosen.score == pytest.approx(np.mean(means))


def test_a_task_trains_where_it_is_not_served():
    """Task 2 helps 0 and 1, and is best alone."""
    pairs = np.array([[0, 0, 4.0], [0, 0, 4.0], [-1.0, -1.0, 0]])
    groups = all_groups(3)
    chosen = best_groups(mean_of_pairs(pairs, groups), groups, budget=3)
    assert chosen.groups == ((0, 2), (1, 2), (2,))
    assert chosen.serves == ((0,), (1,), (2,))
    alike = best_groups(mean_of_pairs(np.zeros((3, 3)), groups), groups, 3)
    assert alike.groups == ((0, 1, 2),)  # one model, where more are no better


@pytest.mark.parametrize("bare", [0, 1])
def test_a_task_without_scores_is_not_served(bare):
    scores = np.where(np.arange(2)[:, None] == bare, np.nan, np.eye(2))
    with pytest.raises(InputError, match="serve all 2 tasks within a budget of 2; "):
        best_groups(scores, [(0,), (1,)], budget=2)


def test_twenty_tasks_that_fall_into_five_groups_are_found():
    rng = np.random.default_rng(0)
    family = rng.permutation(np.arange(20) % 5)
    pairs = np.where(family[:, None] == family, 1.0, -1.0)
    pairs += 0.1 * rng.normal(size=pairs.shape)
    groups = all_groups(20)
    assert max(map(len, groups)) == 4 and len(groups) == 6195
    chosen = best_groups(mean_of_pairs(pairs, groups), groups, budget=5)
    families = sorted(tuple(np.flatnonzero(family == f).tolist()) for f in range(5))
    assert list(chosen.groups) == families == list(chosen.serves)


@pytest.mark.parametrize(
    ("shape", "budget", "costs", "pattern"),
    [
        ((2, 4), 1, None, r"scores are \(2, 4\); .*2 tasks.*3 groups"),
        ((2, 3), 0, None, "budget 0 .*at least 1"),
        ((2, 3), 1.5, None, "budget 1.5 .*whole numbers"),
        ((2, 3), 1, [1], r"costs \[1\] must .*1 to 2 tasks"),
    ],
)
def test_searches_that_are_refused(shape, budget, costs, pattern):
    with pytest.raises(InputError, match=pattern):
        best_groups(np.zeros(shape), all_groups(2), budget, costs)


def test_choices_are_looked_up_where_they_were_trained():
    pairs = np.full((COUNT, COUNT), -4.0)
    pairs[0, 1] = pairs[1, 0] = pairs[2, 3] = pairs[3, 2] = 8.0
    table = choices(records(pairs, [*PAIRS, *TRIPLES]), budget=3).set_index("by")
    hoa = table.loc["hoa"]
    assert hoa["groups"] == hoa["serves"] == "a+b | c+d | e"
    assert hoa["predicted"] == pytest.approx(4 * 8 / 5) == hoa["measured"]
    assert hoa["low"] == pytest.approx(hoa["high"]) and hoa["untrained"] == ""
    assert table.loc["measured groups"]["groups"] == hoa["groups"]
    assert table.loc["all alone"]["measured"] == 0
    mean = pairs[~np.eye(COUNT, dtype=bool)].mean()
    assert table.loc["all together"]["measured"] == pytest.approx(mean)
    few = choices(records(pairs, PAIRS), budget=1).set_index("by")
    assert few.loc["hoa"]["groups"] == "+".join(TASKS)
    pairs[:4, :4] = 8.0
    few = choices(records(pairs, PAIRS), budget=2).set_index("by").loc["hoa"]
    assert few["untrained"] == "multi:a+b+c+d" and np.isnan(few["measured"])
    assert few["reason"] == "not trained: multi:a+b+c+d"


def test_covariance_similarity_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(n, 3, 2)) * [1, 5] for n in (20, 30)]

    def root(x):
        values, vectors = np.linalg.eigh(x.T @ x)
        values, vectors = values[::-1], vectors[:, ::-1]
        rank = int(np.argmax(np.cumsum(values) >= 0.99 * values.sum())) + 1
        return vectors[:, :rank] @ np.diag(values[:rank] ** 0.5)

    first, second = (root(x.reshape(len(x), -1)) for x in inputs)
    dense = np.linalg.norm(first.T @ second)
    dense /= np.linalg.norm(first) * np.linalg.norm(second)
    similar = covariance_similarity(inputs)
    assert similar[0, 1] == pytest.approx(dense) == similar[1, 0]
    short = first.shape[1]
    assert short < 6  # something was cut
    with pytest.raises(InputError, match=r"2 tasks and \[5, 6\] features"):
        covariance_similarity([np.zeros((4, 5)), np.zeros((4, 6))])


def test_overlap_is_of_contents():
    x = np.arange(12, dtype=np.uint8).reshape(6, 2)
    shares = overlap([x[:4], x[2:], x[[4, 4, 5]].copy()])
    np.testing.assert_allclose(shares, [[1, 0.5, 0], [0.5, 1, 0.5], [0, 1, 1]])


def test_a_data_map_is_mean_and_spread():
    probabilities = np.random.default_rng(0).random((7, 5))
    maps = data_map(probabilities, ends=(3, 7))
    assert maps.shape == (2, 5, 2)
    mean, m2 = np.zeros(5), np.zeros(5)  # Welford, as the authors do
    for count, row in enumerate(probabilities, start=1):
        apart = row - mean
        mean += apart / count
        m2 += apart * (row - mean)
        if count in (3, 7):
            at = maps[(3, 7).index(count)]
            np.testing.assert_allclose(at[:, 0], np.sqrt(m2 / (count - 1)))
            np.testing.assert_allclose(at[:, 1], mean)
    with pytest.raises(InputError, match=r"ends are \[1\], of 7 epochs"):
        data_map(probabilities, ends=(1,))


def test_memberships_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    rows, centres, m = rng.normal(size=(6, 4)), rng.normal(size=(3, 4)), 1.7
    away = np.array([[np.linalg.norm(r - c) for c in centres] for r in rows])
    dense = [
        [1 / sum((d[c] / d[j]) ** (2 / (m - 1)) for j in range(3)) for c in range(3)]
        for d in away
    ]
    np.testing.assert_allclose(memberships(rows, centres, m), dense)
    hard = memberships(rows, rows[:2])  # a task on a centre is its own
    np.testing.assert_array_equal(hard[:2], np.eye(2))
    np.testing.assert_allclose(hard.sum(axis=1), 1)
    together = co_membership(hard)
    np.testing.assert_allclose(together, together.T)
    with pytest.raises(InputError, match="fuzziness is 1; it must be above 1"):
        memberships(rows, centres, 1)


def test_k_means_finds_the_best_of_all_partitions():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(7, 3))

    def inertia(centres):
        return ((rows[:, None] - centres[None]) ** 2).sum(-1).min(1).sum()

    best = min(
        inertia(np.stack([rows[list(part)].mean(0), rows[list(rest)].mean(0)]))
        for size in range(1, 4)
        for part in itertools.combinations(range(7), size)
        if (rest := set(range(7)) - set(part))
    )
    assert inertia(k_means(rows, 2)) == pytest.approx(best)
    sklearn = pytest.importorskip("sklearn.cluster")
    theirs = sklearn.KMeans(2, n_init=10, random_state=0).fit(rows).cluster_centers_
    assert inertia(theirs) == pytest.approx(best)
    np.testing.assert_allclose(k_means(np.ones((3, 2)), 2), np.ones((2, 2)))
    with pytest.raises(InputError, match="clusters is 8 for 7 tasks; choose 1 to 7"):
        k_means(rows, 8)


def test_ties_that_rounding_breaks_stay_ties():
    """0.1 + 0.2 is not 0.3, and no order may come of it."""
    targets, inside = np.zeros(3, int), np.eye(4, dtype=bool)[[1, 2, 3]]
    inside[:, 0] = True
    values = np.array([0.1 + 0.2, 0.3, 0.5])
    pairs = np.array([[0.0, 0.3, 0.1 + 0.2, 0.5]] * 4)
    noisy = Units(targets, inside, rounded(values))
    assert rank(pairs, noisy).correlation.value == pytest.approx(
        rank_correlation([1, 1, 2], [1, 1, 2]).value
    )
