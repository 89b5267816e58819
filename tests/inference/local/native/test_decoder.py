import random
from functools import cache

import pytest
import torch

from inference.local.decoder import Decoder
from inference.local.forward import PackedForward
from inference.local.kv_cache import KvCache
from inference.local.linear import Format
from inference.local.native import library
from inference.local.native.decoder import NativeDecoder
from inference.local.scheduler import Chunk
from inference.local.sequence import Sequence
from inference.local.traced import TracedDecoder
from inference.types import SamplingParams
from tests.inference.local.test_decoder_choice import checked

KINDS = [
    *("llama", "llama3", "llama_biased", "llama_uneven"),
    *("mistral", "qwen2", "qwen3", "smollm3"),
]


@pytest.fixture(scope="module")
def decoder_of(tiny_model):
    """Packed weights are the same for all instruction sets, so each model is loaded once."""

    @cache
    def load(kind, weights):
        return checked(tiny_model(kind), weights).decoder

    return load


def forward_of(model):
    return PackedForward(model, KvCache(max_rows=8, max_tokens=8 * 256))


def sequence_of(number, length):
    tokens = [(5 * place + 11 * number) % 300 for place in range(length)]
    return Sequence(str(number), tokens, SamplingParams(), 1)


def advanced(forward, chunks):
    """The logits of those sequences that are computed to their end."""
    ordered = sorted(chunks, key=lambda chunk: chunk.tokens > 1)
    ending = [chunk.sequence.id for chunk in ordered if chunk.samples]
    logits = forward.run(ordered)
    for chunk in ordered:
        chunk.sequence.computed += chunk.tokens
    return dict(zip(ending, logits, strict=True))


def computed_in_pieces(forward, lengths, seed):
    """Logits after the last token of each sequence, computed in random pieces side by side."""
    generator = random.Random(seed)
    waiting = [sequence_of(number, length) for number, length in enumerate(lengths)]
    final = {}
    while waiting:
        some = generator.sample(waiting, generator.randint(1, len(waiting)))
        chunks = [Chunk(one, generator.randint(1, len(one.tokens) - one.computed)) for one in some]
        final |= advanced(forward, chunks)
        waiting = [one for one in waiting if one.computed < len(one.tokens)]
    return final


# Rounding to int8 turns a last bit into a step.
DEVIATION = {Format.FP32: 2e-5, Format.FP16: 2e-5, Format.BF16: 2e-2, Format.INT8: 5e-2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", list(Format))
def test_it_computes_what_the_decoder_in_torch_computes(decoder_of, instructions, kind, weights):
    if weights is Format.BF16 and not library.kernels().has_bf16:
        pytest.skip(f"no products of bf16 with {instructions}")
    decoder = decoder_of(kind, weights)
    lengths = [1, 3, 17, 64, 65, 130]
    expected = computed_in_pieces(forward_of(decoder), lengths, seed=1)
    logits = computed_in_pieces(forward_of(NativeDecoder(decoder)), lengths, seed=1)
    for name, row in expected.items():
        assert (logits[name] - row).norm() < DEVIATION[weights] * row.norm()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", list(Format))
@pytest.mark.parametrize("seed", range(4))
def test_any_pieces_beside_any_others_give_the_same_bits(decoder_of, kind, weights, seed):
    decoder = decoder_of(kind, weights)
    lengths = [2, 9, 33, 70, 140]
    together = computed_in_pieces(forward_of(NativeDecoder(decoder)), lengths, seed)
    for number, length in enumerate(lengths):
        alone = sequence_of(number, length)
        logits = advanced(forward_of(NativeDecoder(decoder)), [Chunk(alone, length)])
        assert torch.equal(together[alone.id], logits[alone.id])


def test_it_is_what_a_cpu_runs(tiny_model):
    assert isinstance(checked(tiny_model("llama")).network, NativeDecoder)


def test_switched_off_everything_runs_through_torch(tiny_model, monkeypatch):
    monkeypatch.setenv(library.VARIABLE, library.OFF)
    made = checked(tiny_model("llama"), Format.INT8)
    assert isinstance(made.network, TracedDecoder)


@pytest.mark.parametrize("weights", list(Format))
def test_gates_that_end_within_a_block_run_through_torch(tiny_model, weights):
    made = checked(tiny_model("llama_odd_gates"), weights)
    assert not isinstance(made.network, NativeDecoder)


def test_plain_weights_of_another_layout_are_refused(tiny_model):
    made = checked(tiny_model("llama"))
    made.decoder.layers[1].down.weight = made.decoder.layers[1].down.weight.T.contiguous().T
    with pytest.raises(ValueError, match="one row after the other"):
        NativeDecoder(made.decoder)


def test_a_wrong_result_is_noticed(tiny_model, monkeypatch):
    compute = NativeDecoder.step_logits
    monkeypatch.setattr(
        NativeDecoder, "step_logits", lambda self, *step: compute(self, *step).roll(1, -1)
    )
    assert isinstance(checked(tiny_model("llama"), Format.FP16).network, Decoder)


def test_a_sequence_that_is_not_a_number_leaves_the_others_alone(tiny_model):
    made = checked(tiny_model("llama"))
    healthy, sick = (forward_of(NativeDecoder(made.decoder)) for _ in range(2))
    chunks = [[Chunk(sequence_of(number, 9), 9) for number in range(2)] for _ in range(2)]
    advanced(healthy, chunks[0])
    advanced(sick, chunks[1])
    with torch.inference_mode():
        for slab in sick._cache.layers.values():
            slab.keys[0] = torch.nan
    for run in chunks:
        for chunk in run:
            chunk.sequence.append(7)
    expected = advanced(healthy, [Chunk(chunk.sequence, 1) for chunk in chunks[0]])
    logits = advanced(sick, [Chunk(chunk.sequence, 1) for chunk in chunks[1]])
    assert torch.equal(logits["1"], expected["1"])
    assert not logits["0"].isfinite().all()
