from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from pytest_django import Settings

from models_registry.models import Model, RegistryRevision

pytestmark = pytest.mark.django_db
ONE_MODEL = "version: 1\nmodels: [{name: demo, backends: [{runtime: local, source: s}]}]\n"


@pytest.fixture
def models_file(tmp_path: Path, settings: Settings) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(ONE_MODEL)
    settings.MODELS_FILE = path
    return path


def sync_models(*options: str) -> list[str]:
    out = StringIO()
    call_command("sync_models", *options, stdout=out)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("options", [[], ["--apply"]])
def test_it_prints_and_applies_the_changes(models_file: Path, options: list[str]) -> None:
    assert sync_models(*options) == ["+ demo", "Applied as revision 1."]
    assert RegistryRevision.objects.get().applied_by == "sync_models"


def test_a_second_run_has_nothing_to_change(models_file: Path) -> None:
    sync_models()
    assert sync_models() == ["Nothing to change."]


def test_check_fails_on_changes_and_applies_none(models_file: Path) -> None:
    with pytest.raises(CommandError, match=r"models\.yaml and the database differ") as caught:
        sync_models("--check")
    assert caught.value.returncode == 1
    assert not Model.objects.exists()


def test_check_passes_when_nothing_changes(models_file: Path) -> None:
    sync_models()
    assert sync_models("--check") == ["Nothing to change."]


def test_check_and_apply_exclude_each_other(models_file: Path) -> None:
    with pytest.raises(CommandError, match="not allowed with"):
        sync_models("--check", "--apply")


def test_a_broken_file_changes_nothing_and_names_the_line(models_file: Path) -> None:
    sync_models()
    models_file.write_text(ONE_MODEL.replace("local", "cloud"))
    with pytest.raises(CommandError, match=r"^models\.yaml:2:44: models\[0\]\.backends\[0\]\."):
        sync_models()
    assert Model.objects.filter(name="demo").exists()
