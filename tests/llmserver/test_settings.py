import re

from tests.end_to_end.live_server import ROOT


def test_every_setting_is_in_the_example_file_and_the_other_way_round() -> None:
    settings = (ROOT / "llmserver/settings.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', settings))
    shown = set(re.findall(r"^#(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert read == {name if name in read else name.removesuffix("_FILE") for name in shown}
