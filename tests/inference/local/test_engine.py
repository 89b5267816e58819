import threading
from dataclasses import replace

import pytest
import torch

from inference.errors import BackendUnavailable, InvalidRequest, Overloaded, PromptTooLong
from inference.local.engine import MAX_FAILED_STEPS
from inference.local.generation import Generation
from inference.types import Accepted, FinishReason, Usage

LONG = 200
"""Tokens that the tiny models do not finish before a test has done its part."""


@pytest.fixture
def broken_engine(run_engine):
    driven = run_engine("llama")
    driven.engine._loaded = replace(driven.loaded, forward=BrokenForward())
    return driven


class BrokenForward:
    def run(self, chunks):
        raise RuntimeError("no such kernel")

    def release(self, sequence_id):
        pass


def test_it_accepts_then_streams_every_token_then_finishes(run_engine):
    driven = run_engine()
    answer = driven.ask("The quick brown fox", max_tokens=5)
    accepted, *chunks, finished = answer.events
    assert accepted == Accepted("tiny:0", "cpu", prompt_tokens=finished.usage.prompt_tokens)
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3, 4]
    assert finished.reason is FinishReason.LENGTH


def test_an_answer_cut_within_a_character_ends_before_it(run_engine):
    answer = run_engine().hear("a👋", max_tokens=3)
    assert answer.text == "a"
    assert answer.finished.usage.completion_tokens == 3


def test_usage_counts_prompt_and_generated_tokens_exactly(run_engine):
    driven = run_engine()
    usage = driven.ask("A model", max_tokens=7).finished.usage
    assert usage == Usage(len(driven.tokens_of("A model")), 7)


def test_the_end_token_is_counted_and_has_no_text(run_engine):
    driven = run_engine()
    answer = driven.hear("The dog")
    assert answer.text == "The dog"
    assert answer.chunks[-1].text == ""
    assert answer.finished.reason is FinishReason.STOP
    assert answer.finished.usage.completion_tokens == len(driven.tokens_of("The dog")) + 1


def test_it_times_queue_first_token_and_total(run_engine):
    timings = run_engine().ask("A", max_tokens=4).finished.timings
    assert 0 <= timings.queue_s <= timings.ttft_s <= timings.total_s


def test_without_max_tokens_it_goes_on_to_the_end_of_the_context(run_engine):
    driven = run_engine(context=64)
    driven.engine._loaded = replace(driven.loaded, eos_ids=frozenset())
    finished = driven.ask("A model").finished
    assert finished.reason is FinishReason.LENGTH
    assert finished.usage.total_tokens == 64


def test_it_stops_at_a_stop_string_over_several_tokens_and_leaves_it_out(run_engine):
    answer = run_engine().hear("One dog. Two dogs.", stop=("xyz", "g. T"))
    assert answer.text == "One do"
    assert answer.finished.reason is FinishReason.STOP


def test_it_sends_what_it_held_back_when_the_answer_ends(run_engine):
    answer = run_engine().hear("One dog. T", stop=("g. Two",))
    assert answer.text == "One dog. T"


def test_it_never_splits_a_character(run_engine):
    chunks = run_engine().hear("grüße 👋🏽!").chunks
    assert [c.text for c in chunks if c.text] == ["g", "r", "ü", "ß", "e", " ", "👋", "🏽", "!"]


def test_it_applies_the_chat_template(run_engine):
    driven = run_engine()
    driven.chat("chat", ("user", "A dog"), max_tokens=3)
    driven.submit("plain", "<|user|>A dog</s><|assistant|>", max_tokens=3)
    assert driven.answer("chat").text == driven.answer("plain").text
    assert driven.answer("chat").finished.usage == driven.answer("plain").finished.usage


def test_it_decodes_several_requests_in_one_step(run_engine):
    driven = run_engine(max_running=4)
    driven.gate.clear()
    for name in "abcd":
        driven.submit(name, "A dog", max_tokens=LONG)
    driven.gate.set()
    driven.wait_for(lambda: any(len(o.events) == 4 for o in driven.outputs[4:]))
    assert max(output.stats.running for output in driven.outputs) == 4


def test_a_seed_gives_the_same_tokens_alone_and_in_a_batch(run_engine):
    driven = run_engine(max_running=4)
    driven.submit("alone", "A dog", temperature=1.0, seed=7, max_tokens=30)
    driven.answer("alone")
    for name, seed in (("other", 8), ("batched", 7), ("unseeded", None)):
        driven.submit(name, "A dog", temperature=1.0, seed=seed, max_tokens=30)
    driven.answer("batched")
    assert driven.noting.tokens["batched"] == driven.noting.tokens["alone"]
    driven.answer("other")
    assert driven.noting.tokens["other"] != driven.noting.tokens["alone"]


class WatchedForward:
    def __init__(self, driven):
        self.forward = driven.loaded.forward
        self.engine = driven.engine
        self.seen = []

    def run(self, chunks):
        self.seen.append((self.engine.step_under_way, torch.get_num_threads()))
        return self.forward.run(chunks)

    def release(self, sequence_id):
        self.forward.release(sequence_id)


def test_it_tells_the_sizes_of_the_step_under_way(run_engine):
    driven = run_engine()
    watched = WatchedForward(driven)
    driven.engine._loaded = replace(driven.loaded, forward=watched)
    driven.ask("A dog", max_tokens=2)
    length = len(driven.tokens_of("A dog"))
    sizes = [(step.rows, step.new_tokens, step.longest_row) for step, _ in watched.seen]
    assert sizes == [(1, length, length), (1, 1, length + 1)]
    assert driven.engine.step_under_way is None


def test_other_threads_are_taken_between_two_steps(run_engine):
    driven = run_engine()
    watched = WatchedForward(driven)
    driven.engine._loaded = replace(driven.loaded, forward=watched)
    driven.ask("A dog", max_tokens=1)
    driven.engine.use_threads(2)
    driven.submit("second", "A dog", max_tokens=1)
    driven.answer("second")
    assert [threads for _, threads in watched.seen] == [1, 2]


def test_a_full_house_refuses_before_it_tokenises(run_engine):
    driven = run_engine(max_running=1, max_waiting=1)
    driven.submit("runs", "A dog", max_tokens=LONG)
    driven.submit("waits", "A dog", max_tokens=LONG)
    driven.engine._loaded = replace(driven.loaded, prompts=None)
    with pytest.raises(Overloaded, match="2 requests under way"):
        driven.submit("refused", "A dog")


def test_a_place_is_free_again_when_a_request_has_ended(run_engine):
    driven = run_engine(max_running=1, max_waiting=0)
    for number in range(3):
        driven.submit(str(number), "A dog", max_tokens=2)
        driven.answer(str(number))
    stats = driven.engine.stats()
    assert (stats.running, stats.waiting, stats.kv_bytes) == (0, 0, 0)


def test_a_refused_prompt_gives_its_place_back(run_engine):
    driven = run_engine(max_running=1, max_waiting=0)
    with pytest.raises(PromptTooLong):
        driven.submit("long", "word " * 500)
    assert driven.ask("A dog", max_tokens=1).finished


def test_it_refuses_a_prompt_over_the_context_with_both_numbers(run_engine):
    with pytest.raises(PromptTooLong, match="context is 256 tokens") as refusal:
        run_engine().submit("long", "word " * 500)
    assert refusal.value.prompt_tokens > 500


def test_it_refuses_more_output_than_the_context_has_room_for(run_engine):
    with pytest.raises(PromptTooLong) as refusal:
        run_engine().submit("long", "A dog", max_tokens=256)
    assert refusal.value.max_tokens == 256


def test_it_fills_the_context_to_the_last_token(run_engine):
    driven = run_engine(context=64)
    driven.engine._loaded = replace(driven.loaded, eos_ids=frozenset())
    room = 64 - len(driven.tokens_of("A dog"))
    assert driven.ask("A dog", max_tokens=room).finished.usage.total_tokens == 64


@pytest.mark.parametrize("max_tokens", [0, -1])
def test_it_refuses_to_generate_nothing(run_engine, max_tokens):
    with pytest.raises(InvalidRequest, match="max_tokens"):
        run_engine().submit("none", "A dog", max_tokens=max_tokens)


def test_it_refuses_an_id_that_is_under_way(run_engine):
    driven = run_engine()
    driven.submit("twin", "A dog", max_tokens=LONG)
    with pytest.raises(InvalidRequest, match="under way already"):
        driven.submit("twin", "A dog")


def test_cancel_stops_a_running_request_with_exact_usage(run_engine):
    driven = run_engine()
    driven.submit("gone", "A dog", max_tokens=LONG)
    driven.wait_for_tokens("gone", 3)
    driven.engine.cancel("gone")
    answer = driven.answer("gone")
    assert answer.finished.reason is FinishReason.ABORT
    assert answer.finished.usage.completion_tokens == len(answer.chunks) < LONG


def test_cancel_stops_a_waiting_request_before_its_first_token(run_engine):
    driven = run_engine(max_running=1)
    driven.submit("runs", "A dog", max_tokens=LONG)
    driven.submit("waits", "A dog", max_tokens=LONG)
    driven.engine.cancel("waits")
    answer = driven.answer("waits")
    assert answer.finished.reason is FinishReason.ABORT
    assert answer.finished.usage.completion_tokens == 0
    assert answer.finished.timings.ttft_s is None


def test_cancel_takes_effect_before_the_next_step(run_engine):
    driven = run_engine()
    driven.submit("gone", "A dog", max_tokens=LONG)
    driven.wait_for_tokens("gone", 1)
    driven.gate.clear()
    seen = len(driven.outputs)
    driven.wait_for(lambda: len(driven.outputs) > seen)
    driven.engine.cancel("gone")
    tokens = len(driven.noting.tokens["gone"])
    driven.gate.set()
    assert driven.answer("gone").finished.usage.completion_tokens == tokens


def test_cancelling_twice_or_an_unknown_id_does_nothing(run_engine):
    driven = run_engine()
    driven.submit("gone", "A dog", max_tokens=LONG)
    driven.engine.cancel("never was")
    driven.engine.cancel("gone")
    driven.engine.cancel("gone")
    driven.answer("gone")
    driven.engine.cancel("gone")
    assert driven.ask("A dog", max_tokens=1).finished


def test_it_sleeps_when_there_is_nothing_to_do(run_engine):
    driven = run_engine()
    driven.ask("A dog", max_tokens=2)
    seen = len(driven.outputs)
    driven.submit("next", "A dog", max_tokens=2)
    driven.answer("next")
    assert len(driven.outputs) == seen + 3


def test_stop_fails_what_is_under_way_and_ends_the_thread(run_engine):
    driven = run_engine(max_running=1)
    driven.submit("runs", "A dog", max_tokens=LONG)
    driven.submit("waits", "A dog", max_tokens=LONG)
    driven.engine.stop()
    for name in ("runs", "waits"):
        assert isinstance(driven.answer(name).error, BackendUnavailable)
    assert not any(thread.name == "engine" for thread in threading.enumerate())


def test_a_stopped_engine_takes_no_requests(run_engine):
    driven = run_engine()
    driven.engine.stop()
    with pytest.raises(BackendUnavailable):
        driven.submit("late", "A dog")


def test_a_failed_step_fails_its_requests_and_the_engine_goes_on(broken_engine):
    working = broken_engine.loaded
    assert isinstance(broken_engine.ask("A dog").error, BackendUnavailable)
    broken_engine.engine._loaded = working
    broken_engine.submit("next", "A dog", max_tokens=2)
    assert broken_engine.answer("next").finished
    assert broken_engine.engine.failed is None


def test_an_answer_that_cannot_be_read_leaves_the_others_alone(run_engine, monkeypatch):
    advance = Generation.advance

    def unreadable(generation, *token):
        if generation.sequence.id == "sick":
            raise RecursionError
        return advance(generation, *token)

    monkeypatch.setattr(Generation, "advance", unreadable)
    driven = run_engine()
    for name in ("healthy", "sick"):
        driven.submit(name, "A dog", max_tokens=20)
    assert isinstance(driven.answer("sick").error, BackendUnavailable)
    assert driven.answer("healthy").finished.usage.completion_tokens == 20
    assert driven.engine.failed is None


def test_it_gives_up_after_several_failed_steps_in_a_row(broken_engine):
    for number in range(MAX_FAILED_STEPS):
        broken_engine.submit(str(number), "A dog")
        broken_engine.answer(str(number))
    broken_engine.engine._thread.join()
    assert "no such kernel" in broken_engine.engine.failed
    with pytest.raises(BackendUnavailable):
        broken_engine.submit("late", "A dog")


def test_numbers_that_are_none_fail_only_their_own_request(run_engine):
    import torch

    class PoisonedForward:
        def __init__(self, forward):
            self.release, self._forward = forward.release, forward

        def run(self, chunks):
            logits = self._forward.run(chunks)
            names = [chunk.sequence.id for chunk in chunks if chunk.samples]
            return torch.where(torch.tensor([[n == "bad"] for n in names]), torch.nan, logits)

    driven = run_engine()
    driven.engine._loaded = replace(driven.loaded, forward=PoisonedForward(driven.loaded.forward))
    driven.submit("good", "A dog", max_tokens=10)
    driven.submit("bad", "A dog", max_tokens=10)
    assert "no usable numbers" in str(driven.answer("bad").error)
    assert driven.answer("good").finished


def test_a_broken_listener_ends_the_engine(tiny_model, caplog):
    from tests.inference.local import driven_engine

    driven = driven_engine.load(tiny_model("llama"))
    calls = []

    def emit(output):
        calls.append(output)
        if len(calls) == 1:
            raise ConnectionError("nobody listens")

    engine = driven.engine
    engine.start(emit)
    driven.submit("heard", "A dog")
    engine._thread.join()
    assert "ConnectionError" in engine.failed
    assert isinstance(calls[-1].events[0][1], BackendUnavailable)
