import os
import re
import subprocess
import sys
from pathlib import Path

from llmserver import peppers
from tests.end_to_end.live_server import ROOT


def test_every_setting_is_in_the_example_file_and_the_other_way_round() -> None:
    settings = (ROOT / "llmserver/settings.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', settings))
    # The second stands for all further ones.
    read |= {peppers.FIRST_NAME, f"{peppers.FIRST_NAME}_2", peppers.CURRENT_NAME}
    shown = set(re.findall(r"^#(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert read == {name if name in read else name.removesuffix("_FILE") for name in shown}


def run(*arguments: str, data_dir: Path) -> str:
    environment = {**os.environ, "LLMSERVER_DATA_DIR": str(data_dir)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_start_imports_neither_twisted_nor_torch(tmp_path: Path) -> None:
    script = (
        "import sys, django; django.setup(); import llmserver.management.commands.serve, "
        "llmserver.asgi, models_registry.management.commands.run_engine; "
        "print({'twisted', 'torch', 'huggingface_hub'} & sys.modules.keys())"
    )
    assert run("-c", script, data_dir=tmp_path) == "set()\n"


def test_runserver_is_daphnes(tmp_path: Path) -> None:
    assert "ASGI" in run("manage.py", "runserver", "--help", data_dir=tmp_path)
