from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from pytest_django import DjangoAssertNumQueries

from models_registry import changes


@pytest.mark.django_db
def test_a_topic_without_changes_is_at_zero() -> None:
    assert changes.value("nothing") == 0


@pytest.mark.django_db
def test_every_bump_moves_its_own_topic() -> None:
    changes.bump("keys")
    changes.bump("keys")
    changes.bump("catalog")
    assert (changes.value("keys"), changes.value("catalog")) == (2, 1)


@pytest.mark.django_db
def test_reading_takes_one_query_and_a_later_bump_too(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    changes.bump("keys")
    with django_assert_num_queries(2):
        changes.bump("keys")
        changes.value("keys")


@pytest.mark.django_db(transaction=True)
def test_a_bump_that_is_rolled_back_moves_nothing() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        changes.bump("keys")
        raise ZeroDivisionError
    assert changes.value("keys") == 0


@pytest.mark.django_db(transaction=True)
def test_bumps_of_several_connections_all_count() -> None:
    def bump_ten_times(_: int) -> None:
        try:
            for _ in range(10):
                with transaction.atomic():
                    changes.bump("keys")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bump_ten_times, range(4)))
    assert changes.value("keys") == 40
