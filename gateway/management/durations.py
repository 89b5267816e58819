import re
from argparse import ArgumentTypeError
from datetime import timedelta

PATTERN = re.compile(r"(?P<count>\d{1,6})(?P<unit>[mhdw])")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# Far enough for anybody, and within what dates can hold.
LONGEST = timedelta(days=3650)


def duration(text: str) -> timedelta:
    match = PATTERN.fullmatch(text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is not a duration such as 90m, 12h or 30d")
    found = timedelta(**{UNITS[match["unit"]]: int(match["count"])})
    if found > LONGEST:
        raise ArgumentTypeError(f"{text!r} is longer than ten years")
    return found
