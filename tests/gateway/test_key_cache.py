import asyncio
import gc
from typing import Any

import pytest

from gateway.errors import DependencyUnavailable, InvalidKey, TooManyUnknownKeys
from gateway.key_cache import UNKNOWN_BURST, KeyCache
from tests.gateway.served import until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Directory:
    """Where keys are looked up; those that start with `good` are."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_away = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def look_up(self, plaintext: str) -> str:
        self.asked.append(plaintext)
        await self.gate.wait()
        if self.is_away:
            raise DependencyUnavailable("database")
        if not plaintext.startswith("good"):
            raise InvalidKey
        return f"holder of {len(self.asked)}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def directory() -> Directory:
    return Directory()


@pytest.fixture
async def cache(directory: Directory, clock: Clock) -> KeyCache[str]:
    return KeyCache(directory.look_up, clock=clock, max_known=3, max_refused=3)


async def refused(cache: KeyCache[str], plaintext: str) -> None:
    with pytest.raises(InvalidKey):
        await cache.get(plaintext)


async def test_many_who_miss_at_once_ask_once(cache: KeyCache[str], directory: Directory) -> None:
    directory.gate.clear()
    asking = [asyncio.create_task(cache.get("good")) for _ in range(50)]
    await asyncio.sleep(0)
    directory.gate.set()
    assert set(await asyncio.gather(*asking)) == {"holder of 1"}
    assert directory.asked == ["good"]


async def test_one_who_leaves_spoils_nothing_for_the_others(
    cache: KeyCache[str], directory: Directory
) -> None:
    directory.gate.clear()
    first, second = (asyncio.create_task(cache.get("good")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    directory.gate.set()
    assert await second == "holder of 1"


async def test_a_change_during_a_look_up_repeats_it(
    cache: KeyCache[str], directory: Directory
) -> None:
    directory.gate.clear()
    asking = asyncio.create_task(cache.get("good"))
    await until(lambda: directory.asked)
    cache.outdate()
    directory.gate.set()
    assert await asking == "holder of 2"


async def test_a_change_outdates_good_and_bad_verdicts(
    cache: KeyCache[str], directory: Directory
) -> None:
    await cache.get("good")
    await refused(cache, "bad")
    cache.outdate()
    await cache.get("good")
    await refused(cache, "bad")
    assert directory.asked == ["good", "bad"] * 2


async def test_a_verdict_holds_longer_while_somebody_vouches_for_it(
    cache: KeyCache[str], directory: Directory, clock: Clock, settings: Any
) -> None:
    await cache.get("good")
    clock.now += settings.API_KEY_RECHECK_S - 1
    cache.vouch(clock.now + 1)
    await cache.get("good")
    assert directory.asked == ["good"]
    clock.now += 1
    await cache.get("good")
    assert directory.asked == ["good"] * 2


async def test_a_refusal_is_short_lived_in_any_case(
    cache: KeyCache[str], directory: Directory, clock: Clock, settings: Any
) -> None:
    await refused(cache, "bad")
    clock.now += settings.API_KEY_CACHE_TTL_S
    cache.vouch(clock.now + 1)
    await refused(cache, "bad")
    assert directory.asked == ["bad"] * 2


async def test_it_never_holds_more_than_its_bounds(cache: KeyCache[str]) -> None:
    for number in range(20):
        await cache.get(f"good{number}")
        await refused(cache, f"bad{number}")
    assert len(cache) == 6


async def test_wrong_keys_displace_no_right_one(cache: KeyCache[str], directory: Directory) -> None:
    await cache.get("good")
    for number in range(20):
        await refused(cache, f"bad{number}")
    await cache.get("good")
    assert directory.asked.count("good") == 1


async def flood(cache: KeyCache[str], keys: int) -> int:
    answers = [cache.get(f"bad{number}") for number in range(keys)]
    found = await asyncio.gather(*answers, return_exceptions=True)
    return sum(isinstance(one, TooManyUnknownKeys) for one in found)


async def test_a_flood_of_wrong_keys_does_not_reach_the_database(
    cache: KeyCache[str], directory: Directory
) -> None:
    assert await flood(cache, 5000) == 5000 - UNKNOWN_BURST
    assert len(directory.asked) == UNKNOWN_BURST


async def test_a_known_key_works_during_a_flood(
    cache: KeyCache[str], clock: Clock, settings: Any
) -> None:
    await cache.get("good")
    await flood(cache, 5000)
    clock.now += settings.API_KEY_CACHE_TTL_S
    await flood(cache, 5000)
    assert await cache.get("good")


async def test_a_flood_ends_by_itself(cache: KeyCache[str], clock: Clock) -> None:
    await flood(cache, 5000)
    clock.now += 1
    assert await cache.get("good")


async def test_right_keys_are_no_flood(cache: KeyCache[str]) -> None:
    for number in range(UNKNOWN_BURST * 2):
        await cache.get(f"good{number}")


async def test_a_known_key_goes_on_while_the_database_is_away(
    cache: KeyCache[str], directory: Directory, clock: Clock, settings: Any
) -> None:
    await cache.get("good")
    directory.is_away = True
    clock.now += settings.API_KEY_RECHECK_S + settings.API_KEY_GRACE_S - 1
    assert await cache.get("good") == "holder of 1"
    clock.now += 1
    with pytest.raises(DependencyUnavailable):
        await cache.get("good")


async def test_an_outage_costs_one_attempt_a_second(
    cache: KeyCache[str], directory: Directory, clock: Clock
) -> None:
    await cache.get("good")
    directory.is_away = True
    clock.now += 5
    for _ in range(10):
        await cache.get("good")
    assert len(directory.asked) == 2


async def test_what_has_changed_has_no_grace(cache: KeyCache[str], directory: Directory) -> None:
    await cache.get("good")
    directory.is_away = True
    cache.outdate()
    with pytest.raises(DependencyUnavailable):
        await cache.get("good")


async def test_it_keeps_no_key(cache: KeyCache[str]) -> None:
    secret = "good-and-secret"
    await cache.get(secret)
    await asyncio.sleep(0)
    gc.collect()
    assert secret not in repr(vars(cache))
