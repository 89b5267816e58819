"""Through the thread of an engine; `interleaving` has all kinds and hundreds of cases."""

import pytest

PROMPTS = [
    "The quick brown fox",
    "A",
    "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich. " * 2,
    "and some more words about one model or another",
    "数は十三",
]


def reference(driven, prompt, max_tokens):
    from tests.inference.local import tiny_models

    folder = driven.loaded.info.source
    return tiny_models.generate(folder, driven.tokens_of(prompt), max_tokens)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_transformers_modules_give_the_same_tokens_as_our_decoder(run_engine, kind, monkeypatch):
    from inference.local import assembly

    monkeypatch.setattr(assembly, "FAMILY", set())
    driven = run_engine(kind, max_running=4, step_tokens=13)
    assert driven.engine.info.decoder == "transformers"
    for number, prompt in enumerate(PROMPTS):
        driven.submit(str(number), prompt, max_tokens=12)
    for number, prompt in enumerate(PROMPTS):
        driven.answer(str(number))
        assert driven.noting.tokens[str(number)] == reference(driven, prompt, 12)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_packed_weights_give_the_same_tokens_alone_and_in_a_batch(run_engine, kind, weights):
    alone = run_engine(kind, weights=weights)
    expected = {}
    for prompt in PROMPTS:
        alone.ask(prompt, max_tokens=20)
        expected[prompt] = alone.noting.tokens.pop("only")
        alone.forget("only")
    driven = run_engine(kind, weights=weights, max_running=4, step_tokens=13)
    for number, prompt in enumerate(PROMPTS):
        driven.submit(str(number), prompt, max_tokens=20)
    for number, prompt in enumerate(PROMPTS):
        driven.answer(str(number))
        assert driven.noting.tokens[str(number)] == expected[prompt]


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "gpt2"])
def test_each_of_a_ragged_batch_gets_the_tokens_it_gets_alone(run_engine, kind):
    driven = run_engine(kind, max_running=4, step_tokens=13)
    for number, prompt in enumerate(PROMPTS):
        driven.submit(str(number), prompt, max_tokens=20 + number)
    for number, prompt in enumerate(PROMPTS):
        driven.answer(str(number))
        assert driven.noting.tokens[str(number)] == reference(driven, prompt, 20 + number)


def test_a_model_that_cannot_batch_gives_the_same_tokens(run_engine):
    driven = run_engine("mamba")
    for number, prompt in enumerate(PROMPTS):
        driven.submit(str(number), prompt, max_tokens=12)
    for number, prompt in enumerate(PROMPTS):
        driven.answer(str(number))
        assert driven.noting.tokens[str(number)] == reference(driven, prompt, 12)
    assert max(output.stats.running for output in driven.outputs) == 1


def test_others_joining_and_leaving_change_no_tokens(run_engine):
    driven = run_engine(max_running=3, step_tokens=7)
    driven.submit("first", PROMPTS[0], max_tokens=60)
    driven.submit("leaves", PROMPTS[2], max_tokens=100)
    driven.wait_for_tokens("first", 5)
    driven.submit("joins", PROMPTS[3], max_tokens=40)
    driven.wait_for_tokens("joins", 3)
    driven.engine.cancel("leaves")
    for name, prompt, count in (("first", PROMPTS[0], 60), ("joins", PROMPTS[3], 40)):
        driven.answer(name)
        assert driven.noting.tokens[name] == reference(driven, prompt, count)


def test_a_cancelled_request_leaves_nothing_for_the_next(run_engine):
    driven = run_engine("mamba")
    driven.submit("leaves", PROMPTS[0], max_tokens=500)
    driven.submit("next", PROMPTS[3], max_tokens=10)
    driven.wait_for_tokens("leaves", 2)
    driven.engine.cancel("leaves")
    driven.answer("next")
    assert driven.noting.tokens["next"] == reference(driven, PROMPTS[3], 10)


def test_preemption_changes_no_tokens(tiny_model):
    from tests.inference.local.driven_engine import load, with_memory

    driven = with_memory(load(tiny_model("llama"), max_running=4), kv_tokens=256).start()
    for number, prompt in enumerate(PROMPTS):
        driven.submit(str(number), prompt, max_tokens=90)
    for number, prompt in enumerate(PROMPTS):
        driven.answer(str(number))
        assert driven.noting.tokens[str(number)] == reference(driven, prompt, 90)
    driven.engine.stop()
    assert driven.loaded.forward.recomputed
