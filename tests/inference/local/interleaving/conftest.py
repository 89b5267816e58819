from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.inference.local.interleaving.studied import Studied


@pytest.fixture(scope="session")
def studied(tiny_model: Callable[[str], Path]) -> "Callable[..., Studied]":
    from tests.inference.local.interleaving.studied import study

    @cache
    def of(kind: str, weights: str = "fp32", kernels: str = "auto") -> "Studied":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LLMSERVER_KERNELS", kernels)
            return study(kind, tiny_model(kind), weights)

    return of


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that short answers reach the limits of memory too. `weights` keeps a copy of the number,
    # which must not be this one for the tests that follow.
    from inference.local import scheduler, weights

    assert weights

    monkeypatch.setattr(scheduler, "KV_BLOCK", 8)
