"""Why a change of the registry is refused; each message is one line that says what to do.

RegistryError
├── NoSuchModel         neither a model nor an alias
├── ModelDisabled       it must be enabled before it can be loaded
├── NothingToLoad       the model has remote backends only
├── NoEngineHost        nothing would act on the wish
├── LoadFailed          the runner gave up
├── LoadTimeout         it took longer than the caller wants to wait
└── HostNameTaken       another engine host runs under this name
"""

import difflib
from collections.abc import Collection

START_ENGINE = "Start one with `manage.py serve` or `manage.py run_engine`."


class RegistryError(Exception):
    """Base of all refusals of the registry."""


class NoSuchModel(RegistryError):
    def __init__(self, name: str, known: Collection[str]) -> None:
        close = difflib.get_close_matches(name, known, n=3)
        if close:
            hint = f"Did you mean {' or '.join(close)}?"
        elif known:
            hint = f"Known are {', '.join(sorted(known)[:10])}."
        else:
            hint = "There are none yet: list some in models.yaml and run `manage.py sync_models`."
        super().__init__(f"There is no model {name!r}. {hint}")
        self.name = name


class ModelDisabled(RegistryError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The model {name!r} is disabled. Enable it in the admin first.")


class NothingToLoad(RegistryError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"The model {name!r} has no enabled local backend, so there is nothing to load or "
            "unload here."
        )


class NoEngineHost(RegistryError):
    def __init__(self, name: str, wish: str) -> None:
        super().__init__(
            f"{name!r} is marked to be {wish}, but no engine host is running. {START_ENGINE}"
        )


class LoadFailed(RegistryError):
    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"{key} could not be loaded: {detail or 'the log of the engine says why'}")


class LoadTimeout(RegistryError):
    def __init__(self, name: str, timeout_s: float, state: str) -> None:
        super().__init__(
            f"{name!r} is still {state} after {timeout_s:g} s. It goes on without this command; "
            "see `manage.py list_models`, or wait longer with --timeout."
        )


class HostNameTaken(RegistryError):
    def __init__(self, name: str, pid: int) -> None:
        super().__init__(
            f"An engine host named {name!r} is already running (pid {pid}). Stop it, or start this "
            "one with another --name."
        )
