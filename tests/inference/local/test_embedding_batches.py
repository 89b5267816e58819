from hypothesis import given
from hypothesis import strategies as st

from inference.local.embedding_batches import (
    FREE_PADDING,
    PADDING_SHARE,
    Batch,
    BatchBudget,
    BatchQueue,
    EmbeddingJob,
)

BUDGET = BatchBudget(tokens=100, rows=8)


def job(name: str, *lengths: int, team: str = "a") -> EmbeddingJob:
    return EmbeddingJob(name, [[1] * length for length in lengths], team)


def queue_of(*jobs: EmbeddingJob) -> BatchQueue:
    queue = BatchQueue(BUDGET)
    for one in jobs:
        queue.add(one)
    return queue


def lengths(batch: Batch) -> list[int]:
    return [row.length for row in batch.rows]


def drain(queue: BatchQueue) -> list[Batch]:
    batches = []
    while queue:
        batch = queue.next_batch()
        batches.append(batch)
        for done in {row.job for row in batch.rows if not row.job.left}:
            queue.remove(done)
    return batches


@given(st.lists(st.lists(st.integers(1, 150), min_size=1, max_size=30), max_size=5))
def test_every_input_is_computed_once_within_the_budget(jobs: list[list[int]]):
    queue = queue_of(*(job(str(name), *one) for name, one in enumerate(jobs)))
    batches = drain(queue)
    seen = [(row.job.id, row.index) for batch in batches for row in batch.rows]
    assert sorted(seen) == sorted(
        (str(n), i) for n, one in enumerate(jobs) for i in range(len(one))
    )
    for batch in batches:
        padding = batch.places - sum(lengths(batch))
        assert len(batch.rows) == 1 or batch.places <= BUDGET.tokens
        assert len(batch.rows) <= BUDGET.rows
        assert padding <= max(FREE_PADDING, PADDING_SHARE * batch.places)


def test_inputs_of_like_length_are_together():
    batches = drain(queue_of(job("a", 90, 10, 88, 10, 10)))
    assert sorted(map(lengths, batches)) == [[10, 10, 10], [88], [90]]


def test_requests_that_wait_share_a_batch():
    batch = queue_of(job("a", 20), job("b", 20, team="b")).next_batch()
    assert {row.job.id for row in batch.rows} == {"a", "b"}


def test_a_long_request_does_not_hold_up_another_team():
    queue = queue_of(job("long", *[90] * 10))
    queue.next_batch()
    queue.add(job("short", 5, team="b"))
    order = [{row.job.id for row in queue.next_batch().rows} for _ in range(2)]
    assert {"short"} in order


def test_a_long_request_does_not_hold_up_another_of_its_team():
    queue = queue_of(job("long", *[90] * 10))
    queue.next_batch()
    queue.add(job("short", 5))
    queue.next_batch()
    assert {row.job.id for row in queue.next_batch().rows} == {"short"}


def test_an_input_longer_than_a_batch_runs_alone():
    assert lengths(queue_of(job("a", 500, 499)).next_batch()) == [500]


def test_what_is_removed_is_not_computed():
    gone, kept = job("gone", 20, 20), job("kept", 20)
    queue = queue_of(gone, kept)
    queue.remove(gone)
    assert [row.job for row in queue.next_batch().rows] == [kept]
    assert not queue
