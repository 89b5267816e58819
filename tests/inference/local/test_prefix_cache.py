"""Answers with cached prefixes are compared with those of the same model without any."""

import random

import pytest

SYSTEM = "<|system|>A model answers one question after another, and some more words.</s>"
FIRST = SYSTEM + "<|user|>The quick brown fox jumps over the lazy dog.</s>"
OTHER = SYSTEM + "<|user|>Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich.</s>"

# Grouped heads, windows of 12 tokens in all or some layers, sinks, learned positions.
KINDS = ["llama", "mistral", "gemma2", "gpt_oss", "gpt2"]
TOKEN_BYTES = 384
"""KV of one token of the tiny llama."""


@pytest.fixture
def run(tiny_model):
    from tests.inference.local.driven_engine import load, with_memory

    running = []

    def start(kind="llama", *, prefix_bytes=1 << 24, kv_tokens=4096, **options):
        driven = load(tiny_model(kind), **options)
        driven = with_memory(driven, kv_tokens=kv_tokens, prefix_bytes=prefix_bytes).start()
        running.append(driven)
        return driven

    yield start
    for driven in running:
        driven.engine.stop()


def tokens_of(driven, name, prompt, count=12, **options):
    driven.submit(name, prompt, max_tokens=count, **options)
    driven.answer(name)
    return driven.noting.tokens[name]


def cached(driven, name):
    return driven.answer(name).finished.usage.cached_tokens


def shared(driven, one, other):
    pairs = zip(driven.tokens_of(one), driven.tokens_of(other), strict=False)
    return next(at for at, (a, b) in enumerate(pairs) if a != b)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_prompt_again_gives_the_same_tokens(run, kind):
    driven = run(kind)
    first = tokens_of(driven, "first", FIRST)
    assert tokens_of(driven, "again", FIRST) == first
    assert cached(driven, "first") == 0
    assert cached(driven, "again") == len(driven.tokens_of(FIRST)) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_begins_alike_gives_the_tokens_it_gives_alone(run, kind):
    driven, alone = run(kind, step_tokens=17), run(kind, prefix_bytes=0)
    tokens_of(driven, "first", FIRST)
    assert tokens_of(driven, "other", OTHER) == tokens_of(alone, "other", OTHER)
    assert cached(driven, "other") == shared(driven, FIRST, OTHER) > 20


def test_the_next_turn_of_a_conversation_computes_only_what_is_new(run):
    driven, alone = run(), run(prefix_bytes=0)
    driven.noting.scripts["first"] = driven.tokens_of("One dog.")
    tokens_of(driven, "first", FIRST, len(driven.noting.scripts["first"]))
    second = FIRST + "One dog.</s><|user|>And now?</s>"
    assert tokens_of(driven, "second", second) == tokens_of(alone, "second", second)
    # The last token of the answer was never computed.
    assert cached(driven, "second") == len(driven.tokens_of(FIRST + "One dog.")) - 1


def test_the_beginning_of_a_longer_one_is_found_too(run):
    driven, alone = run(), run(prefix_bytes=0)
    tokens_of(driven, "long", OTHER + FIRST)
    assert tokens_of(driven, "short", OTHER) == tokens_of(alone, "short", OTHER)
    assert cached(driven, "short") == len(driven.tokens_of(OTHER)) - 1


def test_a_prompt_is_found_while_its_answer_is_still_under_way(run):
    driven = run()
    driven.submit("first", FIRST, max_tokens=100)
    driven.wait_for_tokens("first", 1)
    tokens_of(driven, "second", FIRST, 1)
    assert cached(driven, "second") > 0


def test_teams_share_nothing(run):
    driven = run()
    tokens_of(driven, "first", FIRST, salt="1")
    tokens_of(driven, "second", FIRST, salt="2")
    tokens_of(driven, "third", FIRST, salt="1")
    assert [cached(driven, name) > 0 for name in ("first", "second", "third")] == [0, 0, 1]


def test_what_a_cancelled_request_computed_is_of_use(run):
    driven, alone = run(), run(prefix_bytes=0)
    driven.submit("gone", FIRST, max_tokens=150)
    driven.wait_for_tokens("gone", 3)
    driven.engine.cancel("gone")
    driven.answer("gone")
    assert tokens_of(driven, "again", FIRST) == tokens_of(alone, "again", FIRST)
    assert cached(driven, "again") > 0


def test_a_preempted_request_finds_what_it_computed(run):
    driven, alone = run(kv_tokens=256, max_running=4), run(prefix_bytes=0)
    prompts = {name: f"{name} {SYSTEM}" for name in "abcd"}
    for name, prompt in prompts.items():
        driven.submit(name, prompt, max_tokens=90)
    for name, prompt in prompts.items():
        driven.answer(name)
        assert driven.noting.tokens[name] == tokens_of(alone, name, prompt, 90)
        assert cached(driven, name) < len(driven.tokens_of(prompt)) / 2
    assert driven.engine.stats().prefix_hits > 0


def test_a_model_that_cannot_batch_caches_nothing(run_engine):
    driven = run_engine("mamba")
    tokens_of(driven, "first", FIRST, 2)
    tokens_of(driven, "again", FIRST, 2)
    assert cached(driven, "again") == 0


def test_the_memory_is_bounded(run):
    driven = run(prefix_bytes=50 * TOKEN_BYTES)
    for name in "abcdef":
        tokens_of(driven, name, name + FIRST, 2)
        assert 0 < driven.engine.stats().prefix_bytes <= 50 * TOKEN_BYTES


def test_it_shrinks_when_less_memory_is_left(run):
    driven = run()
    tokens_of(driven, "first", FIRST, 2)
    driven.loaded.prefixes.budget = lambda _held: 10 * TOKEN_BYTES
    tokens_of(driven, "second", "A dog", 2)
    assert driven.engine.stats().prefix_bytes <= 10 * TOKEN_BYTES


def test_an_idle_model_gives_the_memory_back(run):
    driven = run()
    driven.engine._idle_s = 0.2
    tokens_of(driven, "first", FIRST, 2)
    tokens_of(driven, "again", FIRST, 2)
    driven.wait_until(lambda: driven.engine.stats().prefix_bytes == 0)
    assert tokens_of(driven, "later", FIRST, 2) == driven.noting.tokens["first"]
    assert cached(driven, "later") == 0


def test_without_memory_for_a_copy_the_request_succeeds(run, caplog):
    driven = run()

    def read(*_place):
        raise MemoryError

    driven.loaded.prefixes._cache.read = read
    assert len(tokens_of(driven, "first", FIRST, 2)) == 2
    assert "could not keep a prefix" in caplog.text


def test_stats_count_the_tokens_that_were_looked_up_and_found(run):
    driven = run()
    tokens_of(driven, "first", FIRST, 2)
    tokens_of(driven, "again", FIRST, 2)
    stats = driven.engine.stats()
    length = len(driven.tokens_of(FIRST)) - 1
    assert (stats.prefix_queries, stats.prefix_hits) == (2 * length, length)
    assert (stats.kv_bytes, stats.prefix_bytes) == (0, TOKEN_BYTES * (length + 2))


@pytest.mark.parametrize("kind", KINDS)
def test_any_mix_of_requests_gets_the_tokens_that_each_gets_alone(run, kind):
    dice = random.Random(kind)
    driven = run(kind, max_running=3, step_tokens=19, kv_tokens=512, prefix_bytes=150_000)
    alone = run(kind, prefix_bytes=0)
    expected = {}
    for number in range(40):
        prompt = dice.choice([FIRST, OTHER])[: dice.randint(1, 120)] + dice.choice(
            ["", "x", "über"]
        )
        driven.submit(str(number), prompt, max_tokens=dice.randint(1, 40), salt=dice.choice("ab"))
        expected[str(number)] = prompt
        if dice.random() < 0.3:
            driven.engine.cancel(str(dice.randint(0, number)))
        if dice.random() < 0.3:
            driven.answer(str(number))
    for name, prompt in expected.items():
        driven.answer(name)
        if tokens := driven.noting.tokens[name]:
            assert tokens == tokens_of(alone, name, prompt, len(tokens))
    assert driven.engine.stats().prefix_hits > 0


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
def test_these_tests_notice_a_prefix_at_a_wrong_position(run, kind):
    driven, alone = run(kind), run(kind, prefix_bytes=0)
    tokens_of(driven, "first", FIRST)
    driven.loaded.prefixes._cache.restore = off_by_one(driven.loaded.prefixes._cache.restore)
    assert tokens_of(driven, "again", FIRST) != tokens_of(alone, "again", FIRST)


def off_by_one(restore):
    def broken(owner, place, layers):
        restore(owner, range(place.start + 1, place.stop), layers)

    return broken


def ask_together(driven, names, prompt, count=6, **options):
    """All of them are there before the first step."""
    driven.gate.clear()
    driven.submit("before", "A", max_tokens=2)
    for name in names:
        driven.submit(name, prompt, max_tokens=count, **options)
    driven.gate.set()
    for name in names:
        driven.answer(name)
    return [driven.noting.tokens[name] for name in names]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_asked_several_times_at_once_is_computed_once(run, kind):
    driven, alone = run(kind, step_tokens=17), run(kind, prefix_bytes=0, step_tokens=17)
    names = ["one", "two", "three", "four"]
    assert ask_together(driven, names, FIRST) == ask_together(alone, names, FIRST)
    count = len(driven.tokens_of(FIRST))
    assert sorted(cached(driven, name) for name in names) == [0, *[count - 1] * 3]


def test_the_others_of_a_prompt_compute_it_if_the_first_one_leaves(run):
    driven, alone = run(step_tokens=17), run(prefix_bytes=0)
    driven.gate.clear()
    for name in ("one", "two"):
        driven.submit(name, FIRST, max_tokens=6)
    driven.engine.cancel("one")
    driven.gate.set()
    driven.answer("two")
    assert driven.noting.tokens["two"] == tokens_of(alone, "two", FIRST, 6)


def test_teams_do_not_wait_for_the_prompts_of_others(run):
    driven = run(step_tokens=17)
    driven.gate.clear()
    for team in ("a", "b"):
        driven.submit(team, FIRST, max_tokens=6, salt=team)
    driven.gate.set()
    assert [cached(driven, team) for team in ("a", "b")] == [0, 0]
