import pytest

from inference.local.native import library
from inference.local.native.library import KernelsUnavailable


@pytest.fixture(params=["avx512", "avx2", "portable"])
def instructions(request, monkeypatch):
    monkeypatch.setenv(library.VARIABLE, request.param)
    try:
        library.kernels()
    except KernelsUnavailable as missing:
        pytest.skip(str(missing))
    return request.param
