"""The data directory: where the database, the secret key, sockets and metrics files live."""

import os
import secrets
import shutil
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def prepare(data_dir: Path) -> Path:
    """Create the directory, private to this user, or say in one line why it cannot be used."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(data_dir, error.strerror or "cannot be created") from None
    if not os.access(data_dir, os.W_OK | os.X_OK):
        raise _unusable(data_dir, "is not writable")
    return data_dir


def _unusable(data_dir: Path, why: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(
        f"The data directory {data_dir} {why}. Set LLMSERVER_DATA_DIR to a folder you may write to."
    )


def kept_secret(data_dir: Path, name: str) -> str:
    """The secret kept in the file `name`, made on first use and readable by this user only."""
    file = data_dir / name
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise _unusable(data_dir, error.strerror or "is not writable") from None
    value = secrets.token_urlsafe(48)
    with os.fdopen(descriptor, "w", encoding="ascii") as handle:
        handle.write(value)
    return value


def emptied(folder: Path) -> Path:
    """Make the folder, or clear what an earlier run left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
