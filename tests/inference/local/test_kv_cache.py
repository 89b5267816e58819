import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.local.kv_cache import IDLE_BYTES, KvCache
from inference.local.scheduler import KV_BLOCK

HEADS, DIM = 2, 4


def write(cache, owner, start, count, value, layer=0):
    (row,) = cache.reserve([(owner, start + count)])
    rows, positions = torch.full((count,), row), torch.arange(start, start + count)
    keys = torch.full((count, HEADS, DIM), float(value))
    return cache.write(layer, (rows, positions), keys, -keys)


def read(cache, owner, count, layer=0):
    """The first number of each of the owner's keys."""
    (row,) = cache.reserve([(owner, count)])
    slab = cache.write(layer, NOWHERE, torch.empty(0, HEADS, DIM), torch.empty(0, HEADS, DIM))
    assert torch.equal(slab.keys[row, :, :count], -slab.values[row, :, :count])
    return slab.keys[row, 0, :count, 0].tolist()


NOWHERE = (torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long))


def test_it_keeps_what_is_written_when_it_grows():
    cache = KvCache(max_rows=4, max_tokens=4096)
    write(cache, "a", 0, 3, 1.0)
    write(cache, "b", 0, 500, 2.0)
    write(cache, "a", 3, 1, 3.0)
    assert read(cache, "a", 4) == [1.0, 1.0, 1.0, 3.0]
    assert read(cache, "b", 500) == [2.0] * 500


def test_layers_may_have_shapes_of_their_own():
    cache = KvCache(max_rows=2, max_tokens=256)
    (row,) = cache.reserve([("a", 1)])
    place = (torch.tensor([row]), torch.tensor([0]))
    first = cache.write(0, place, torch.ones(1, 1, 8), torch.ones(1, 1, 6))
    second = cache.write(1, place, torch.ones(1, 3, 4), torch.ones(1, 3, 4))
    assert (first.values.shape[-1], second.keys.shape[1]) == (6, 3)
    assert cache.bytes_per_token == (8 + 6 + 12 + 12) * 4


def test_it_leaves_nothing_of_a_released_request_behind():
    cache = KvCache(max_rows=2, max_tokens=256)
    write(cache, "a", 0, 10, torch.nan)
    slab = write(cache, "b", 0, 5, 2.0)
    cache.release("a")
    cache.release("b")
    assert not slab.keys.any()
    assert not slab.values.any()


def test_releasing_what_is_not_there_does_nothing():
    KvCache(max_rows=2, max_tokens=256).release("never was")


def test_a_large_slab_is_given_back_when_nothing_runs():
    cache = KvCache(max_rows=1, max_tokens=1 << 21)
    write(cache, "a", 0, IDLE_BYTES // (2 * HEADS * DIM * 4) + 1, 1.0)
    cache.release("a")
    assert cache.nbytes == 0


def test_many_short_rows_make_way_for_a_long_one():
    cache = KvCache(max_rows=8, max_tokens=8 * KV_BLOCK)
    for name in "abcdefgh":
        write(cache, name, 0, 4, ord(name))
    for name in "abcdefg":
        cache.release(name)
    write(cache, "h", 4, 8 * KV_BLOCK - 4, 5.0)
    assert read(cache, "h", 8) == [ord("h")] * 4 + [5.0] * 4


actions = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from("abcd"), st.integers(1, 150)),
        st.tuples(st.just("release"), st.sampled_from("abcd"), st.none()),
    ),
    max_size=30,
)


@pytest.mark.parametrize("max_tokens", [4 * KV_BLOCK * 8, 4096])
@given(actions=actions)
def test_every_request_reads_what_it_wrote(max_tokens, actions):
    cache, expected = KvCache(max_rows=4, max_tokens=max_tokens), {}
    for number, (action, name, count) in enumerate(actions):
        if action == "release":
            cache.release(name)
            expected.pop(name, None)
        elif len(expected.get(name, [])) + count <= 512:
            written = expected.setdefault(name, [])
            write(cache, name, len(written), count, number)
            written += [float(number)] * count
    for name, numbers in expected.items():
        assert read(cache, name, len(numbers)) == numbers
    assert cache.nbytes <= max_tokens * cache.bytes_per_token
