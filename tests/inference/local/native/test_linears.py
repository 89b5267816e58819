import multiprocessing

import pytest
import torch

from inference.local.native.library import KernelsUnavailable
from inference.local.native.linears import NativeBf16Linear, NativeFp16Linear, NativeInt8Linear

SIZES = [(4, 64), (5, 24), (33, 100), (97, 200), (130, 896)]
WORST = {NativeFp16Linear: 5e-4, NativeBf16Linear: 8e-3, NativeInt8Linear: 2e-2}


@pytest.fixture(params=WORST)
def make(request):
    def made(weight, bias):
        try:
            return request.param(weight, bias)
        except KernelsUnavailable as missing:
            pytest.skip(str(missing))

    made.worst = WORST[request.param]
    return made


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 20])
def test_it_computes_what_torch_computes(instructions, make, size, tokens):
    torch.manual_seed(tokens)
    weight, bias, rows = torch.randn(size), torch.randn(size[0]), torch.randn(tokens, size[1])
    expected = rows @ weight.T + bias
    assert (make(weight, bias)(rows) - expected).norm() < make.worst * expected.norm()


def test_a_token_gives_the_same_bits_beside_any_others(instructions, make):
    torch.manual_seed(0)
    layer, rows = make(torch.randn(70, 200), None), torch.randn(23, 200)
    together = layer(rows)
    for first in range(len(rows)):
        end = first + 1 + first % 9
        assert torch.equal(layer(rows[first:end]), together[first:end])


def test_any_number_of_threads_gives_the_same_bits(instructions, make):
    torch.manual_seed(0)
    layer, rows = make(torch.randn(300, 128), None), torch.randn(9, 128)
    before = torch.get_num_threads()
    try:
        outputs = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            outputs.append(layer(rows))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_outliers_do_not_drown_the_rest_of_an_int8_row(instructions):
    torch.manual_seed(0)
    weight, rows = torch.randn(64, 1024), torch.randn(4, 1024)
    rows[:, 7] *= 1000
    weight[:, 7] = 0
    expected = rows @ weight.T
    error = (NativeInt8Linear(weight, None)(rows) - expected).norm() / expected.norm()
    # One group of eight is lost to it; with one scale for the row all of them would be.
    assert error < 0.4


def test_rows_of_the_weights_can_be_read_back(make):
    weight = torch.randn(50, 100)
    wanted = torch.tensor([0, 49, 3, 3, 17])
    rows = make(weight, None).rows_of(wanted)
    assert torch.allclose(rows, weight[wanted], rtol=1e-3, atol=0.02)


def test_weights_of_bf16_need_no_copy_in_fp32(make):
    weight = torch.randn(40, 64).bfloat16()
    rows = torch.randn(2, 64)
    assert torch.equal(make(weight, None)(rows), make(weight.float(), None)(rows))


def test_leading_dimensions_are_kept(make):
    assert make(torch.randn(6, 8), None)(torch.randn(2, 3, 8)).shape == (2, 3, 6)


def test_a_row_that_is_not_a_number_leaves_the_others_alone(make):
    layer, rows = make(torch.randn(6, 8), None), torch.randn(3, 8)
    expected = layer(rows)
    rows[1] = torch.nan
    assert torch.equal(layer(rows)[[0, 2]], expected[[0, 2]])


def test_a_forked_process_has_threads_of_its_own():
    layer, rows = NativeFp16Linear(torch.randn(64, 64), None), torch.randn(2, 64)
    expected = layer(rows)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(layer(rows).tolist()), daemon=True)
    child.start()
    assert answers.get() == expected.tolist()
    child.join()
