import pytest
import torch

from inference.local import traced
from inference.local.decoder import Decoder
from inference.local.forward import PackedForward
from inference.local.kv_cache import KvCache
from inference.local.linear import Format
from inference.local.native import library
from inference.local.scheduler import Chunk
from inference.local.sequence import Sequence
from inference.local.traced import TracedDecoder
from inference.types import SamplingParams
from tests.inference.local.test_decoder_choice import checked


@pytest.fixture(autouse=True)
def _no_kernels(monkeypatch):
    monkeypatch.setenv(library.VARIABLE, library.OFF)


def forward_of(model):
    return PackedForward(model, KvCache(max_rows=8, max_tokens=8 * 256))


def prefilled(forward, lengths):
    sequences = []
    for number, length in enumerate(lengths):
        tokens = [(5 * place + number) % 300 for place in range(length)]
        sequences.append(Sequence(str(number), tokens, SamplingParams(), 1))
        forward.run([Chunk(sequences[-1], length)])
        sequences[-1].computed = length
    return sequences


def decoded(forward, sequences, token):
    for sequence in sequences:
        sequence.append(token)
    logits = forward.run([Chunk(sequence, 1) for sequence in sequences])
    for sequence in sequences:
        sequence.computed += 1
    return logits


@pytest.mark.parametrize("kind", ["llama", "llama3", "llama_biased", "qwen2", "qwen3", "smollm3"])
@pytest.mark.parametrize("weights", list(Format))
def test_replayed_steps_give_the_logits_of_computed_ones(tiny_model, kind, weights):
    made = checked(tiny_model(kind), weights)
    replaying, computing = forward_of(made.network), forward_of(made.decoder)
    # The last one makes the slabs grow.
    lengths = [3, 17, 9, 40, 120]
    replayed, computed = prefilled(replaying, lengths), prefilled(computing, lengths)
    for count in (1, 5, 2, 4, 5, 3, 1):
        logits = decoded(replaying, replayed[:count], 7)
        assert made.network.is_replaying
        expected = decoded(computing, computed[:count], 7)
        assert torch.allclose(logits, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_holes_and_prefill_are_computed_without_the_recording(tiny_model):
    made = checked(tiny_model("llama"))
    forward = forward_of(made.network)
    sequences = prefilled(forward, [3, 4, 5])
    assert not made.network.is_replaying
    decoded(forward, sequences[1:], 7)
    assert not made.network.is_replaying


def test_windows_are_computed_without_the_recording(tiny_model):
    made = checked(tiny_model("mistral"))
    forward = forward_of(made.network)
    decoded(forward, prefilled(forward, [3, 4]), 7)
    assert not made.network.is_replaying


def test_a_recording_that_is_wrong_is_not_used(tiny_model, monkeypatch):
    record = traced._record

    def record_wrongly(step, inputs):
        recorded = record(step, inputs)
        return lambda *arguments: recorded(*arguments).roll(1, -1)

    monkeypatch.setattr(traced, "_record", record_wrongly)
    assert isinstance(checked(tiny_model("llama")).network, Decoder)


def test_a_step_that_cannot_be_recorded_is_computed(tiny_model, monkeypatch):
    def fail(step, inputs):
        raise RuntimeError("no interpreter")

    monkeypatch.setattr(traced, "_record", fail)
    assert isinstance(checked(tiny_model("llama")).network, Decoder)


def test_a_cpu_without_kernels_replays(tiny_model):
    assert isinstance(checked(tiny_model("llama")).network, TracedDecoder)
