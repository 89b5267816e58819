import pytest

from inference.local.supervisor import Backoff


def test_each_crash_waits_twice_as_long_up_to_half_a_minute() -> None:
    backoff = Backoff()
    delays = [backoff.after(healthy_s=0.0) for _ in range(10)]
    assert delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0])


def test_a_minute_of_health_starts_the_count_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after(healthy_s=59.0)
    assert backoff.after(healthy_s=60.0) == 0.2
