"""The comparison itself: whatever is broken on purpose, it must notice."""

import pytest

from tests.inference.local.interleaving import cases, faults

CASES = 20

# Our decoder and transformers' modules; turned and learned positions; windows; the eager kernel.
MASKS = [
    faults.chunks_see_their_next_token,
    faults.rows_see_one_token_too_many,
    faults.rows_see_each_others_length,
]
POSITIONS = [
    faults.decoding_positions_are_shifted,
    faults.chunk_positions_begin_anew,
]
STORAGE = [
    faults.the_last_row_does_not_move,
    faults.growing_forgets,
    faults.found_prefixes_are_not_restored,
    faults.prefixes_are_cut_at_the_wrong_token,
    faults.prefixes_match_one_token_more,
]
ROWS = [
    faults.chunks_forget_what_came_before,
    faults.holes_between_rows_are_overlooked,
    *STORAGE,
]
FAULTS = [
    *((kind, fault) for fault in MASKS for kind in ("llama", "mistral", "gemma2")),
    *((kind, fault) for fault in POSITIONS for kind in ("llama", "gpt2")),
    *((kind, fault) for fault in ROWS for kind in ("llama", "gpt2")),
    *((kind, faults.windows_are_one_token_wider) for kind in ("mistral", "gemma2")),
    ("llama", faults.the_recorded_step_sees_all),
    ("llama", faults.the_recorded_step_writes_beside),
]
FAULTS_BESIDE_KERNELS = [
    *(("llama", fault) for fault in (*POSITIONS, *STORAGE)),
    ("llama", faults.the_kernels_write_beside),
    ("mistral", faults.the_kernels_see_one_token_too_many),
]


@pytest.mark.parametrize(
    ("kind", "fault"), FAULTS, ids=[f"{kind}-{fault.__name__}" for kind, fault in FAULTS]
)
def test_a_fault_is_noticed(studied, monkeypatch, kind, fault):
    known = studied(kind, kernels="off")
    fault(monkeypatch)
    assert is_noticed(known)


@pytest.mark.parametrize(
    ("kind", "fault"),
    FAULTS_BESIDE_KERNELS,
    ids=[f"{kind}-{fault.__name__}" for kind, fault in FAULTS_BESIDE_KERNELS],
)
def test_a_fault_beside_the_kernels_is_noticed(studied, monkeypatch, kind, fault):
    known = studied(kind)
    fault(monkeypatch)
    assert is_noticed(known)


def is_noticed(known):
    try:
        for number in range(CASES):
            cases.play(known, cases.draw(f"fault {number}", known))
    except AssertionError:
        return True
    return False
