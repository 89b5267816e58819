import logging
from collections import defaultdict
from itertools import count

import pytest
from django.core.cache import cache
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import RedisError

from gateway import limits
from gateway.errors import RateLimited
from gateway.limits import Grant, Outage
from gateway.models import PolicyMode, RateLimit, Team

NOON = 1_800_000_000.0
ids = (f"req_{number}" for number in count())


def rule(pk: int = 1, **terms: object) -> RateLimit:
    return RateLimit(pk=pk, team=Team(slug="acme"), **terms)


def take(*rules: RateLimit, tokens: int = 10, now: float = NOON) -> Grant:
    return limits.take(rules, request_id=next(ids), tokens=tokens, now=now)


def test_it_lets_as_many_requests_pass_as_the_limit_says() -> None:
    two = rule(requests_per_minute=2)
    take(two)
    take(two)
    with pytest.raises(RateLimited) as refusal:
        take(two)
    assert (refusal.value.kind, refusal.value.limit) == ("requests", 2)


def test_it_says_whose_limit_it_is_and_when_to_come_back() -> None:
    one = rule(requests_per_minute=1, model_name="demo")
    take(one, now=NOON + 15)
    with pytest.raises(RateLimited) as refusal:
        take(one, now=NOON + 20)
    assert refusal.value.scope == "team acme on model demo"
    assert refusal.value.retry_after_s == 40


def test_the_next_minute_begins_anew() -> None:
    one = rule(requests_per_minute=1)
    take(one)
    take(one, now=NOON + 60)


def test_two_rules_do_not_share_a_window() -> None:
    take(rule(pk=1, requests_per_minute=1))
    take(rule(pk=2, requests_per_minute=1))


def test_it_reports_what_is_left_and_when_it_resets() -> None:
    state = take(rule(requests_per_minute=5), now=NOON + 10).requests
    assert state is not None
    assert (state.limit, state.remaining, state.reset_s) == (5, 4, 50)


def test_it_reports_the_tightest_rule_of_a_kind() -> None:
    grant = take(
        rule(pk=1, tokens_per_minute=1000),
        rule(pk=2, tokens_per_minute=100),
        rule(pk=3, tokens_per_minute=500),
    )
    assert grant.tokens is not None
    assert grant.tokens.limit == 100


def test_it_counts_tokens() -> None:
    hundred = rule(tokens_per_minute=100)
    take(hundred, tokens=60)
    with pytest.raises(RateLimited):
        take(hundred, tokens=41)
    take(hundred, tokens=40)


def test_a_refused_request_consumes_nothing_of_any_rule() -> None:
    plenty = rule(pk=1, requests_per_minute=2, tokens_per_minute=100, concurrent_requests=1)
    nothing = rule(pk=2, tokens_per_minute=1)
    with pytest.raises(RateLimited):
        take(plenty, nothing)
    grant = take(plenty, tokens=100)
    assert grant.requests is not None
    assert grant.requests.remaining == 1


def test_settling_gives_unused_tokens_back() -> None:
    hundred = rule(tokens_per_minute=100)
    limits.settle(take(hundred, tokens=100), tokens=30)
    take(hundred, tokens=70)


def test_settling_counts_tokens_beyond_the_reserve() -> None:
    hundred = rule(tokens_per_minute=100)
    limits.settle(take(hundred, tokens=10), tokens=95)
    with pytest.raises(RateLimited):
        take(hundred, tokens=10)


def test_settling_keeps_the_request_counted() -> None:
    one = rule(requests_per_minute=1)
    limits.settle(take(one), tokens=3)
    with pytest.raises(RateLimited):
        take(one)


def test_settling_twice_gives_tokens_back_once() -> None:
    hundred = rule(tokens_per_minute=100)
    grant = take(hundred, tokens=100)
    limits.settle(grant, tokens=50)
    limits.settle(grant, tokens=50)
    with pytest.raises(RateLimited):
        take(hundred, tokens=51)


def test_settling_in_the_next_minute_leaves_that_one_alone() -> None:
    hundred = rule(tokens_per_minute=100)
    grant = take(hundred, tokens=10)
    take(hundred, tokens=50, now=NOON + 60)
    limits.settle(grant, tokens=100)
    take(hundred, tokens=50, now=NOON + 60)


def test_releasing_undoes_the_request() -> None:
    one = rule(requests_per_minute=1, tokens_per_minute=10, concurrent_requests=1)
    limits.release(take(one))
    take(one)


@pytest.mark.parametrize("close", [lambda grant: limits.settle(grant, tokens=1), limits.release])
def test_a_slot_is_free_again_when_its_request_ends(close) -> None:
    two = rule(concurrent_requests=2)
    first = take(two)
    take(two)
    with pytest.raises(RateLimited) as refusal:
        take(two)
    assert refusal.value.kind == "concurrency"
    close(first)
    take(two)


def test_a_request_that_outlived_its_lease_does_not_free_the_slot_of_another() -> None:
    one = rule(concurrent_requests=1)
    late = take(one)
    cache.clear()
    take(one)
    limits.release(late)
    with pytest.raises(RateLimited):
        take(one)


def test_shadow_mode_logs_and_lets_pass(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.limits")
    one = rule(requests_per_minute=1, mode=PolicyMode.SHADOW)
    take(one)
    grant = take(one)
    assert "would refuse" in caplog.text
    assert grant.requests is None


def test_without_redis_requests_pass(no_redis: None, caplog: pytest.LogCaptureFixture) -> None:
    one = rule(requests_per_minute=1, concurrent_requests=1)
    limits.settle(take(one), tokens=1)
    take(one)
    assert "rate limits are off" in caplog.text


def test_a_dead_redis_is_not_asked_by_every_request(
    no_redis: None, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        take(rule(requests_per_minute=1))
    assert caplog.text.count("rate limits are off") < 20


class Time:
    now = 0.0

    def clock(self) -> float:
        return self.now


def test_one_slow_answer_is_no_outage() -> None:
    outage = Outage()
    for _ in range(10):
        outage.note(RedisError())
        assert not outage.is_on
        outage.end()


def test_an_outage_ends_by_itself() -> None:
    time = Time()
    outage = Outage(time.clock)
    for _ in range(limits.OUTAGE_FAILURES):
        outage.note(RedisError())
    assert outage.is_on
    time.now = limits.OUTAGE_PAUSE_S
    assert not outage.is_on


@given(
    limit=st.integers(1, 200),
    steps=st.lists(st.tuples(st.floats(0, 45), st.integers(0, 120)), max_size=30),
)
def test_no_minute_ever_holds_more_tokens_than_the_limit(
    limit: int, steps: list[tuple[float, int]]
) -> None:
    cache.clear()
    now, held = NOON, defaultdict(int)
    for pause_s, tokens in steps:
        now += pause_s
        minute = now // 60
        fits = held[minute] + tokens <= limit
        try:
            take(rule(tokens_per_minute=limit), tokens=tokens, now=now)
            held[minute] += tokens
        except RateLimited:
            assert not fits
        assert held[minute] <= limit
