from benchmarks import arrivals


def test_the_same_seed_gives_the_same_load() -> None:
    assert arrivals.poisson(32, 2.0, seed=7) == arrivals.poisson(32, 2.0, seed=7)
    assert arrivals.poisson(32, 2.0, seed=7) != arrivals.poisson(32, 2.0, seed=8)


def test_lengths_stay_within_their_bounds() -> None:
    for arrival in arrivals.poisson(2000, 2.0, seed=1):
        assert 16 <= arrival.prompt_tokens <= 512
        assert 16 <= arrival.output_tokens <= 128


def test_requests_come_one_after_another_at_the_asked_rate() -> None:
    found = arrivals.poisson(4000, 2.0, seed=1)
    moments = [arrival.at_s for arrival in found]
    assert moments[0] == 0.0
    assert moments == sorted(moments)
    assert 1.8 < len(found) / moments[-1] < 2.2


def test_a_prompt_holds_plain_words_only() -> None:
    prompt = arrivals.tokens(1000, vocabulary=20, seed=3, first=4)
    assert set(prompt) == set(range(4, 20))
