import pytest

from benchmarks.samples import Samples, paired_ratio, percentile, significant


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.0), (0.99, 4.0), (0.0, 1.0), (1.0, 4.0)])
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 0.5)


def test_samples_show_their_median_and_spread() -> None:
    samples = Samples((90.0, 100.0, 110.0))
    assert samples.median == 100.0
    assert samples.spread == pytest.approx(0.1)
    assert str(samples) == "100 ± 10%"


def test_a_single_sample_claims_no_spread() -> None:
    assert str(Samples((12.34,))) == "12.3"


def test_ratios_pair_neighbours_in_time() -> None:
    # The machine halved its speed in between, which says nothing about either engine.
    ratio = paired_ratio(Samples((200.0, 100.0)), Samples((100.0, 50.0)))
    assert ratio.values == (2.0, 2.0)


@pytest.mark.parametrize(("value", "shown"), [(1234.5, "1234"), (56.78, "56.8"), (0.9876, "0.99")])
def test_numbers_are_shown_with_three_digits(value: float, shown: str) -> None:
    assert significant(value) == shown
