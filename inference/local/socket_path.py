"""Where a runner's socket lies: the same answer in the engine host and in every gateway process."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

from inference.errors import InferenceError

# sun_path holds 108 bytes on Linux and 104 on macOS, with the final NUL.
MAX_PATH_BYTES = 100
# Lower case only: macOS folders take "Demo" and "demo" for one file.
_SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def socket_path(run_dir: Path, backend_id: str) -> Path:
    """A path that fits a Unix socket; under the temporary folder where `run_dir` is too deep.

    Depends only on the arguments, the user and the temporary folder.
    """
    run_dir = run_dir.absolute()
    digest = _digest(backend_id)
    name = backend_id if _SAFE_NAME.fullmatch(backend_id) else digest
    short_dir = Path(tempfile.gettempdir(), f"llmserver-{os.getuid()}-{_digest(str(run_dir))}")
    for path in (run_dir / f"{name}.sock", run_dir / f"{digest}.sock"):
        if _fits(path):
            return path
    return short_dir / f"{digest}.sock"


def prepare_folder(path: Path) -> None:
    """Make the private folder of the socket `path`; raises InferenceError where the path is too
    long or where other users may write to the folder."""
    if not _fits(path):
        raise InferenceError(
            f"The socket path {path} has {len(os.fsencode(path))} bytes; Unix sockets take at most "
            f"{MAX_PATH_BYTES}. Choose a shorter data directory."
        )
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    # In a folder of somebody else's, or one that all may write to, the socket could be replaced.
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise InferenceError(
            f"The socket folder {folder} can be changed by other users. Choose a folder that "
            "belongs to the server's user and has mode 700."
        )


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_PATH_BYTES


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
