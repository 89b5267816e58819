from pathlib import Path

import pytest
from django.core.checks import Error
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from pytest_django import Settings

from models_registry.checks import check_models_file


def test_a_good_file_passes(tmp_path: Path, settings: Settings) -> None:
    settings.MODELS_FILE = tmp_path / "models.yaml"
    settings.MODELS_FILE.write_text("version: 1\nmodels: []")
    assert check_models_file() == []


def test_every_problem_is_an_error_with_its_line(tmp_path: Path, settings: Settings) -> None:
    settings.MODELS_FILE = tmp_path / "models.yaml"
    settings.MODELS_FILE.write_text("version: 2\nmodels: 3")
    assert check_models_file() == [
        Error(
            "models.yaml:1:10: version: must be 1, the only version so far",
            id="models_registry.E001",
        ),
        Error("models.yaml:2:9: models: must be a list", id="models_registry.E001"),
    ]


def test_a_broken_file_fails_manage_check(tmp_path: Path, settings: Settings) -> None:
    settings.MODELS_FILE = tmp_path / "none.yaml"
    with pytest.raises(SystemCheckError, match=r"none\.yaml: No such file or directory"):
        call_command("check")
