from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.headers import cache_control, go_duration, of_admitted
from gateway.exchange import Admitted, CacheControl, CacheState, LimitState


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.012, "12ms"),
        (0.0001, "1ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (3723.004, "1h2m3.004s"),
    ],
)
def test_a_duration_reads_as_in_go(seconds: float, text: str):
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (b"", CacheControl()),
        (b"no-cache", CacheControl(no_cache=True)),
        (b"No-Store , no-cache", CacheControl(no_cache=True, no_store=True)),
        (b"max-age=60", CacheControl(ttl_s=60)),
        (b"max-age=0", CacheControl(no_cache=True)),
        (b"max-age=60, max-age=30", CacheControl(ttl_s=30)),
        (b"max-age=soon, private, max-age=-1", CacheControl()),
    ],
)
def test_cache_control_is_read(header: bytes, wanted: CacheControl):
    assert cache_control({b"cache-control": header}) == wanted


@given(header=st.binary(max_size=50))
def test_no_cache_control_header_does_harm(header: bytes):
    assert isinstance(cache_control({b"cache-control": header}), CacheControl)


def test_an_admitted_request_tells_its_limits():
    admitted = Admitted(
        request_id="req_1",
        model="m",
        backend="b",
        cache=CacheState.MISS,
        created=datetime.now(UTC),
        tokens=LimitState(1000, 900, 6.0),
    )
    assert of_admitted(admitted) == {
        "x-llmserver-cache": "miss",
        "x-llmserver-backend": "b",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "900",
        "x-ratelimit-reset-tokens": "6s",
    }
