import pytest
import torch

from inference.local import linear
from inference.local.linear import PACKS, Format

PACKED = [(weights, make) for weights in (Format.FP16, Format.INT8) for make in PACKS[weights]]


@pytest.fixture(params=PACKED, ids=lambda way: way[1].__name__)
def packed(request):
    weights, make = request.param
    if fault := linear.find_fault(weights, make):
        pytest.skip(fault)
    return request.param


@pytest.mark.parametrize("bias", [torch.linspace(-3, 3, 40), None], ids=["bias", "no bias"])
def test_it_computes_what_a_plain_layer_computes(packed, bias):
    weights, make = packed
    torch.manual_seed(0)
    weight, rows = torch.randn(40, 70), torch.randn(9, 70)
    expected = torch.nn.functional.linear(rows, weight, bias)
    error = (make(weight, bias)(rows) - expected).norm() / expected.norm()
    assert error < {Format.FP16: 1e-3, Format.INT8: 3e-2}[weights]


@pytest.mark.parametrize("count", [2, 3, 7, 16, 65])
def test_a_row_gives_the_same_bits_beside_any_others(packed, count):
    torch.manual_seed(count)
    layer = packed[1](torch.randn(96, 576), None)
    rows = torch.randn(count, 576) * torch.logspace(-3, 3, count)[:, None]
    alone = torch.cat([layer(rows[i : i + 1]) for i in range(count)])
    assert torch.equal(layer(rows), alone)


def test_a_row_of_zeros_stays_zero(packed):
    layer = packed[1](torch.randn(8, 16), None)
    assert torch.equal(layer(torch.zeros(2, 16)), torch.zeros(2, 8))


def test_numbers_beyond_fp16_are_not_packed_into_it():
    layer = linear.pack(torch.full((4, 4), 1e6), None, Format.FP16)
    assert float(layer(torch.ones(1, 4))[0, 0]) == 4e6


def test_fp16_halves_the_memory():
    weight = torch.randn(64, 512)
    assert linear.pack(weight, None, Format.FP16).packed_bytes == weight.nbytes / 2


def test_the_self_test_finds_wrong_results():
    class Wrong(linear.PlainLinear):
        def forward(self, rows):
            return super().forward(rows) * 1.1

    assert "off by" in linear.find_fault(Format.FP16, Wrong)


def test_the_self_test_finds_a_row_that_depends_on_its_neighbours():
    class Sharing(linear.PlainLinear):
        def forward(self, rows):
            scale = rows.abs().max() * 1e3
            return super().forward((rows / scale * 2**20).round() / 2**20 * scale)

    assert linear.find_fault(Format.INT8, Sharing) is not None


def test_the_self_test_finds_a_missing_kernel():
    def missing(weight, bias):
        raise RuntimeError("Didn't find engine\nmore")

    fault = linear.find_fault(Format.FP16, missing)
    assert fault == "torch cannot compute it here (Didn't find engine)"


def test_without_kernels_weights_stay_fp32_and_it_says_why(monkeypatch):
    monkeypatch.setattr(linear, "find_fault", lambda weights, make: "it is broken")
    choice = linear.choose_format("int8")
    assert choice.weights is Format.FP32
    assert choice.reason.startswith("no NativeInt8Linear: it is broken; no Int8Linear: it is")


def test_int8_and_bf16_are_only_used_when_asked_for(monkeypatch):
    monkeypatch.setattr(linear, "find_fault", lambda weights, make: None)
    wishes = ("auto", "fp32", "fp16", "bf16", "int8")
    chosen = [linear.choose_format(wish).weights.value for wish in wishes]
    assert chosen == ["fp16", "fp32", "fp16", "bf16", "int8"]
