"""A broken models.yaml fails `manage.py check`, and with it every start that runs the checks."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error

from models_registry import yaml_file


@checks.register
def check_models_file(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """One error for each problem of the file, with its line."""
    path = settings.MODELS_FILE
    try:
        yaml_file.load(path)
    except yaml_file.ModelsFileError as error:
        return [
            Error(problem.describe(path.name), id="models_registry.E001")
            for problem in error.problems
        ]
    return []
