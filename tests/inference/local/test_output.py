"""Log probabilities, echo and the ends of answers, as an engine gives them."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from inference.errors import InvalidRequest
from inference.types import FinishReason, GenerationRequest, SamplingParams
from tests.inference.local.driven_engine import load, with_memory

PROMPT = "Zwölf Boxkämpfer jagen 数は十三"


def expected_logprobs(driven, tokens):
    """Row n: what transformers says of the token after the first n + 1."""
    folder = driven.loaded.info.source
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0].log_softmax(dim=-1)


def scores_of(answer):
    return [one for chunk in answer.chunks for one in chunk.logprobs]


def request(driven, request_id, **fields):
    sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": 8, **fields.pop("sampling", {})})
    driven.engine.submit(GenerationRequest(request_id, "tiny", sampling=sampling, **fields))
    return driven.answer(request_id)


def test_each_token_comes_with_its_log_probability(run_engine):
    driven = run_engine()
    answer = driven.ask(PROMPT, max_tokens=8, logprobs=3)
    prompt, drawn = driven.tokens_of(PROMPT), driven.noting.tokens["only"]
    table = expected_logprobs(driven, prompt + drawn)[len(prompt) - 1 :]
    for place, one in enumerate(scores_of(answer)):
        best = table[place].topk(3).values
        assert one.token.logprob == pytest.approx(table[place, drawn[place]].item(), abs=1e-3)
        assert [t.logprob for t in one.top] == pytest.approx(best.tolist(), abs=1e-3)


def test_log_probabilities_are_those_before_any_change(run_engine):
    driven = run_engine()
    plain = scores_of(driven.ask(PROMPT, max_tokens=1, logprobs=1))[0].top[0]
    forced = request(
        driven,
        "forced",
        prompt=PROMPT,
        sampling={"logprobs": 1, "max_tokens": 1, "logit_bias": ((5, 100.0),)},
    )
    assert driven.noting.tokens["forced"] == [5]
    assert scores_of(forced)[0].top[0].logprob == pytest.approx(plain.logprob, abs=1e-4)


def test_the_bytes_of_the_tokens_are_those_of_the_text(run_engine):
    answer = run_engine().hear("数は十三 👋🏽 ß", logprobs=0)
    assert b"".join(one.token.data for one in scores_of(answer)).decode() == answer.text
    assert answer.text == "数は十三 👋🏽 ß"


def test_the_token_that_ends_an_answer_has_none(run_engine):
    answer = run_engine().hear("A dog", logprobs=0)
    assert [len(chunk.logprobs) for chunk in answer.chunks] == [1] * (len(answer.chunks) - 1) + [0]


def test_nobody_gets_what_nobody_asked_for(run_engine):
    driven = run_engine(max_running=2)
    driven.submit("asks", PROMPT, max_tokens=5, logprobs=0)
    driven.submit("does not", PROMPT, max_tokens=5)
    assert len(scores_of(driven.answer("asks"))) == 5
    assert not scores_of(driven.answer("does not"))


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_an_echo_tells_how_likely_the_prompt_was(run_engine, kind):
    driven = run_engine(kind)
    tokens = driven.tokens_of(PROMPT * 8)
    answer = request(
        driven, "r", prompt=PROMPT * 8, echo=True, sampling={"logprobs": 2, "max_tokens": 2}
    )
    told = scores_of(answer)[: len(tokens)]
    table = expected_logprobs(driven, tokens)
    expected = [table[place, token].item() for place, token in enumerate(tokens[1:])]
    assert told[0].token.logprob is None
    assert [one.token.logprob for one in told[1:]] == pytest.approx(expected, abs=1e-3)
    assert answer.text.startswith(PROMPT * 8)
    assert answer.finished.usage.completion_tokens == 2


def test_an_echo_is_told_once_though_its_request_has_to_start_again(tiny_model):
    driven = with_memory(load(tiny_model("llama"), max_running=4), kv_tokens=256).start()
    sampling = SamplingParams(temperature=0.0, max_tokens=90, logprobs=0)
    for name in "abcd":
        driven.engine.submit(
            GenerationRequest(name, "tiny", prompt=PROMPT * 3, sampling=sampling, echo=True)
        )
    length = len(driven.tokens_of(PROMPT * 3))
    counts = {name: len(scores_of(driven.answer(name))) for name in "abcd"}
    driven.engine.stop()
    assert driven.loaded.forward.recomputed
    assert counts == dict.fromkeys("abcd", length + 90)


def test_an_echo_with_log_probabilities_changes_no_answer(run_engine):
    driven = run_engine()
    request(driven, "plain", prompt=PROMPT)
    request(driven, "echoed", prompt=PROMPT, echo=True, sampling={"logprobs": 0})
    assert driven.noting.tokens["echoed"] == driven.noting.tokens["plain"]


def test_an_echo_without_log_probabilities_is_the_text_alone(run_engine):
    answer = request(run_engine(), "r", prompt="A dog", echo=True)
    assert (answer.chunks[0].text, answer.chunks[0].tokens) == ("A dog", 0)
    assert not scores_of(answer)


def test_token_ids_are_a_prompt_as_they_are(run_engine):
    driven = run_engine()
    ids = tuple(driven.tokens_of(PROMPT))
    by_ids = request(driven, "ids", prompt_ids=ids, echo=True)
    by_text = request(driven, "text", prompt=PROMPT, echo=True)
    assert by_ids.text == by_text.text
    assert by_ids.finished.usage.prompt_tokens == len(ids)


def test_a_token_that_is_asked_to_stop_ends_the_answer(run_engine):
    driven = run_engine()
    stop = driven.tokens_of("dog")[-1]
    answer = driven.hear("A dog and more", stop_token_ids=(stop,))
    assert answer.finished.reason is FinishReason.STOP
    assert driven.noting.tokens["only"][-1] == stop
    assert answer.chunks[-1].text == ""


def test_the_end_of_the_answer_can_be_ignored(run_engine):
    answer = run_engine().hear("A dog", ignore_eos=True, max_tokens=3)
    assert answer.finished.reason is FinishReason.LENGTH


def test_a_stop_string_does_not_count_before_the_least_length(run_engine):
    driven = run_engine()
    least = len(driven.tokens_of("A dog"))
    answer = driven.hear("A dog and a dog", stop=("dog",), min_tokens=least)
    assert answer.text == "A dog and a "


def test_the_model_s_own_defaults_hold_for_what_is_not_set(tiny_model, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_model("llama"), tmp_path / "model")
    (folder / "generation_config.json").write_text('{"temperature": 0.0, "top_k": 3}')
    driven = load(folder)
    assert driven.loaded.defaults == SamplingParams(temperature=0.0, top_k=3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "A", "sampling": {"logit_bias": ((99999, 1.0),)}}, "logit_bias"),
        ({"prompt": "A", "sampling": {"stop_token_ids": (99999,)}}, "stop_token_ids"),
        ({"prompt_ids": (99999,)}, "prompt"),
        ({"prompt_ids": (-1,)}, "prompt"),
        ({"prompt_ids": ()}, "prompt"),
        ({"prompt": "A " * 900}, "prompt"),
    ],
    ids=str,
)
def test_a_bad_request_names_its_field(run_engine, fields, param):
    with pytest.raises(InvalidRequest) as caught:
        request(run_engine(), "r", **fields)
    assert caught.value.param == param


floats = st.none() | st.floats()
wild = st.builds(
    SamplingParams,
    temperature=floats,
    top_p=floats,
    top_k=st.none() | st.integers(-5, 2000),
    min_p=floats,
    typical_p=floats,
    repetition_penalty=floats,
    presence_penalty=floats,
    frequency_penalty=floats,
    logit_bias=st.lists(st.tuples(st.integers(-2, 400), st.floats()), max_size=4).map(tuple),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    max_tokens=st.integers(-1, 4),
    min_tokens=st.integers(-1, 4),
    stop=st.lists(st.text(max_size=3), max_size=3).map(tuple),
    stop_token_ids=st.lists(st.integers(-2, 400), max_size=3).map(tuple),
    ignore_eos=st.booleans(),
    logprobs=st.none() | st.integers(-1, 22),
)
tame = st.builds(
    SamplingParams,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(0, 400),
    min_p=st.none() | st.floats(0, 1),
    typical_p=st.none() | st.floats(0.001, 1),
    repetition_penalty=st.none() | st.floats(0.01, 100),
    logit_bias=st.lists(st.tuples(st.integers(0, 300), st.floats(-100, 100)), max_size=4).map(
        tuple
    ),
    max_tokens=st.integers(2, 4),
    min_tokens=st.integers(0, 2),
    logprobs=st.none() | st.integers(0, 20),
)


def test_no_sampling_parameters_make_the_engine_fail(run_engine):
    driven = run_engine()
    count = iter(range(10_000))

    @given(sampling=wild | tame, echo=st.booleans())
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def every(sampling, echo):
        name = str(next(count))
        try:
            driven.engine.submit(
                GenerationRequest(name, "tiny", prompt="A dog", sampling=sampling, echo=echo)
            )
        except InvalidRequest as error:
            assert error.param
        else:
            assert driven.answer(name).finished

    every()
    assert driven.engine.failed is None


MANNERS = [
    {"repetition_penalty": 1.3},
    {"presence_penalty": 0.7, "frequency_penalty": 0.4},
    {"top_p": 0.9, "temperature": 1.3},
    {"top_k": 20, "top_p": 0.8},
    {"typical_p": 0.6},
    {"logit_bias": ((7, 4.0), (9, 3.5)), "min_tokens": 10},
    {"temperature": 0.0, "logprobs": 3},
]


def test_each_request_draws_in_a_batch_what_it_draws_alone(run_engine):
    driven = run_engine(max_running=4, step_tokens=13)
    plain = {"temperature": 0.9, "seed": 11, "max_tokens": 25}
    for number, manner in enumerate(MANNERS):
        driven.submit(f"together {number}", PROMPT, **plain | manner)
    for number, manner in enumerate(MANNERS):
        driven.answer(f"together {number}")
        driven.submit(f"alone {number}", PROMPT, **plain | manner)
        driven.answer(f"alone {number}")
        alone, together = (driven.noting.tokens[f"{how} {number}"] for how in ("alone", "together"))
        assert alone == together
