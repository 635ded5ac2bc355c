"""Intervals against closed forms, and how often they hold the truth in simulated sets."""

import importlib

import numpy as np
import pytest
import torch
from scipy.special import stdtrit
from scipy.stats import beta, binom, norm

from simengine.dtn.coco import Found, Objects
from simengine.dtn.evaluation import DetectionTable, average_precision, miss_rate, precision_gap
from simengine.dtn.intervals import (
    ResampledSpread,
    clustered_rate_interval,
    difference_interval,
    jackknife,
    rate_interval,
    spread,
)
from simengine.dtn.judgement import judge

SETS = vars(importlib.import_module("simengine.benchmarks.detector_intervals"))
draw, pair = SETS["table"], SETS["pair"]


def perfect(objects: int, empty: int = 0) -> DetectionTable:
    shown = torch.arange(objects + empty) < objects
    score = torch.linspace(0.9, 0.6, objects)
    return DetectionTable(torch.arange(objects), score, torch.full((objects,), 0.9), objects + empty, shown)


@pytest.mark.parametrize("objects", [1, 2, 20])
@pytest.mark.parametrize("empty", [0, 4])
def test_a_cell_without_a_fault_has_the_interval_of_a_rate(objects: int, empty: int) -> None:
    # resamples of it are all perfect, also where few of them show an object: what is left is Jeffreys's interval
    found = average_precision(perfect(objects, empty))
    assert found.value == 1.0 and found.high == 1.0
    assert found.low == pytest.approx(float(beta.ppf(0.025, objects + 0.5, 0.5)), rel=1e-6)


def test_a_bootstrap_has_the_deviation_of_a_mean_and_the_bias_of_a_largest() -> None:
    """The mean of 5 numbers: their deviation with 4 degrees of freedom over 5^(1/2). The largest of 4, of two of them
    drawn without repetition 10/3 on average for 4: twice what is lost."""
    values = torch.tensor([1.0, 2.0, 4.0, 7.0, 11.0], dtype=torch.float64)
    mean = spread(lambda w: (w.double() @ values) / w.double().sum(1), torch.ones(5), resamples=20_000)
    assert mean.value == pytest.approx(5.0)
    assert mean.deviation == pytest.approx(float(values.std()) / 5**0.5, rel=0.02)  # 4 standard errors of 20,000
    rank = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    largest = spread(lambda w: (rank * (w > 0)).amax(1), torch.ones(4), resamples=20_000)
    assert largest.value == 4.0 and largest.bias == pytest.approx(2 * (10 / 3 - 4), abs=0.05)


def test_pictures_are_what_an_average_precision_is_of() -> None:
    """Four pictures of three objects each, all found: Jeffreys's of four, not of twelve; empty ones tell none."""
    boxes = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    labels = np.array([1, 1, 1])
    found = [Found(boxes, labels, np.array([0.9, 0.8, 0.7]))] * 4
    nothing = [Found(boxes[:0], labels[:0], np.zeros(0))] * 3
    for empty in (0, 3):
        shown = [Objects(boxes, labels)] * 4 + [Objects(boxes[:0], labels[:0])] * empty
        judged = judge([*found, *nothing[:empty]], shown)
        assert judged.precision.low == pytest.approx(float(beta.ppf(0.025, 4.5, 0.5)), rel=1e-6)


def test_rates_are_exact() -> None:
    found = rate_interval(3, 20)
    # Clopper and Pearson: at the bounds the tails of the binomial distribution are 2.5 %
    assert float(binom.sf(2, 20, found.low)) == pytest.approx(0.025)
    assert float(binom.cdf(3, 20, found.high)) == pytest.approx(0.025)
    assert rate_interval(0, 20).low == 0.0 and rate_interval(20, 20).high == 1.0
    assert rate_interval(0, 20).high == pytest.approx(1 - 0.025 ** (1 / 20))
    # five at once hold together in 95 of 100 if each does in 99
    together = rate_interval(3, 20, comparisons=5)
    assert float(binom.sf(2, 20, together.low)) == pytest.approx(0.005)
    assert float(binom.cdf(3, 20, together.high)) == pytest.approx(0.005)
    assert miss_rate(perfect(20)).high == pytest.approx(1 - 0.025 ** (1 / 20))
    for count, number in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="count: expected 0 to number"):
            rate_interval(count, number)


def test_objects_of_one_fate_count_as_their_picture() -> None:
    """20 pictures of five objects, six of them missed as a whole: the variance of 19 objects, not of 100."""
    found = clustered_rate_interval([5] * 6 + [0] * 14, [5] * 20)
    effective = 19 * (stdtrit(99, 0.975) / stdtrit(19, 0.975)) ** 2
    assert found.low == pytest.approx(beta.ppf(0.025, 0.3 * effective, 0.7 * effective + 1))
    assert found.high == pytest.approx(beta.ppf(0.975, 0.3 * effective + 1, 0.7 * effective))
    # pictures that do not differ never count for more objects than there are
    alike, exact = clustered_rate_interval([1] * 40, [2] * 40), rate_interval(40, 80)
    assert exact.low - 0.01 < alike.low <= exact.low and exact.high <= alike.high < exact.high + 0.01
    assert clustered_rate_interval([0, 0], [3, 4]) == rate_interval(0, 7)
    with pytest.raises(ValueError, match="count: expected 0 to number"):
        clustered_rate_interval([0], [0])


def test_intervals_of_clustered_rates_hold() -> None:
    """Five objects a picture whose odds share a normal number of standard deviation 1.5, as in night and fog."""
    generator = np.random.default_rng(0)

    def counts(pictures: int) -> np.ndarray:
        rate = 1 / (1 + np.exp(1.0 - 1.5 * generator.normal(size=pictures)))
        return generator.binomial(5, rate)

    many = counts(1_000_000)
    truth = many.mean() / 5
    held = np.zeros(2)
    for _ in range(400):
        found = counts(60)
        each = clustered_rate_interval(found, [5] * 60), rate_interval(int(found.sum()), 300)
        held += [e.low <= truth <= e.high for e in each]
    assert 0.92 <= held[0] / 400 <= 0.985  # 95 % to three binomial standard deviations
    # taking objects for independent holds what a normal of the true variance leaves within 1.96 of theirs; to three
    # binomial standard deviations, and Clopper and Pearson's 1 % that they hold beyond 95 %
    share = 2 * norm.cdf(1.96 * np.sqrt(5 * truth * (1 - truth) / many.var())) - 1
    assert abs(held[1] / 400 - share) < 0.01 + 3 * np.sqrt(share * (1 - share) / 400) and share < 0.85


def test_no_object_has_no_average_precision() -> None:
    with pytest.raises(ValueError, match="no picture shows an object"):
        average_precision(perfect(0, 3))


def coverage(pictures: int, kind: str, sets: int) -> float:
    truth = float(draw(60_000, kind, torch.Generator().manual_seed(1)).average_precision())
    held = 0
    for number in range(sets):
        found = average_precision(draw(pictures, kind, torch.Generator().manual_seed(10_000 + number)))
        held += found.low <= truth <= found.high
    return held / sets


def test_intervals_hold_the_truth() -> None:
    # 95 % of 120 sets to three binomial standard deviations, 2 % each; the old percentile interval holds 78 %
    assert coverage(40, "usual", 120) >= 0.95 - 0.06


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["usual", "ties", "empty", "clustered", "poor", "good"])
@pytest.mark.parametrize("pictures", [24, 100, 300])
def test_intervals_hold_the_truth_in_93_to_97_of_100(kind: str, pictures: int) -> None:
    held = coverage(pictures, kind, 500)
    # one binomial standard deviation of 500 sets is 1 %; rates near 1 of few objects hold more, as exact ones do
    assert 0.93 - 0.01 <= held <= (1.0 if kind == "good" else 0.97 + 0.01)


def test_leaving_pictures_out_gives_the_deviation_and_the_slope_of_a_rate() -> None:
    """A rate p of n: p (1 - p) / (n - 1), and its slope (1 - 2 p) / n; 900 pictures in 300 groups, by their scatter."""
    for n, hits in ((40, 6), (300, 210)):
        hit = (torch.arange(n) < hits).double()
        deviation, slope = jackknife(lambda w, h=hit: (w.double() @ h) / w.double().sum(1), torch.ones(n))
        p = hits / n
        assert deviation == pytest.approx((p * (1 - p) / (n - 1)) ** 0.5)
        assert slope == pytest.approx((1 - 2 * p) / n, rel=1.5 / n)  # what is left is of the next order in 1/n
    hit = (torch.arange(900) < 90).double()
    deviation, slope = jackknife(lambda w: (w.double() @ hit) / w.double().sum(1), torch.ones(900))
    assert deviation == pytest.approx((0.09 / 900) ** 0.5, rel=4 * (2 * 300) ** -0.5)  # of a variance of 300 groups
    # without the one picture that shows an object there is no figure: two others are left to leave out
    assert jackknife(lambda w: w[:, 1].double(), (torch.arange(3) < 1).float())[0] == pytest.approx(0.5)
    assert jackknife(lambda w: w.double().sum(1), torch.ones(1)) == (0.0, 0.0)


def test_a_difference_has_the_score_interval_of_its_slope() -> None:
    """u^2 = z^2 (v + s u) for what is added, u, where that is wider than the interval of paired rates, a quadratic too:
    u^2 = z^2 (.25 - .6 u - u^2) / 100 for 100 objects, of which .29 have an unequal fate, and a difference of -.2."""
    found, slope, z2 = ResampledSpread(-0.2, 0.0, 0.05), -0.05, float(stdtrit(99, 0.975)) ** 2
    interval = difference_interval(found, 100.0, slope)
    assert interval.low == pytest.approx(np.roots([1.0, -z2 * slope, -z2 * 0.05**2]).min() - 0.2)
    assert interval.high == pytest.approx(np.roots([1 + z2 / 100, 0.6 * z2 / 100, -0.25 * z2 / 100]).max() - 0.2)


def test_gap_of_pairs_holds() -> None:
    """Two pipelines of the same pictures: the second loses a tenth of the hits, and nothing else differs."""
    first, second = pair(60_000, "good", torch.Generator().manual_seed(1))
    truth = float(second.average_precision() - first.average_precision())
    held, sets, longer = 0, 150, 0
    for number in range(sets):
        found = precision_gap(*pair(100, "good", torch.Generator().manual_seed(10_000 + number)))
        held += found.low <= truth <= found.high
        longer += truth < found.low
    assert truth < -0.05
    assert held / sets >= 0.95 - 3 * (0.95 * 0.05 / sets) ** 0.5  # three binomial standard deviations
    # with the bootstrap's deviation seven to ten of a hundred true gaps lie beyond that end
    assert longer / sets <= 0.025 + 3 * (0.025 * 0.975 / sets) ** 0.5
