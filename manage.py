#!/usr/bin/env python
"""The command line of LLM Server; `manage.py help` lists the commands."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmserver.settings")
    try:
        if sys.argv[1:2] == ["serve"]:
            share_metrics()
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Cannot start: {error}")


def share_metrics() -> None:
    """Name the folder in which gateway processes add up their metrics.

    prometheus_client looks at the variable when it is imported, which Django's set-up does.
    """
    from llmserver import data_dir, settings

    metrics_dir = data_dir.emptied(settings.DATA_DIR / "metrics")
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(metrics_dir))


if __name__ == "__main__":
    main()
