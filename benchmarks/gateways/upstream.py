"""The mock upstream that all gateways share: nginx for whole answers, Python for paced ones."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateways import answers
from benchmarks.servers import free_port, running, wait_for

NGINX_CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    client_body_buffer_size 64k;
    keepalive_timeout 600;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    open_file_cache max=8;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {folder};
        # A file answers a POST only in the place of an error.
        error_page 405 =200 $uri;
        location /plain/ {{ default_type application/json; rewrite ^ /completion.json; }}
        location /stream/ {{ default_type text/event-stream; rewrite ^ /stream.sse; }}
        location = /completion.json {{ types {{}} default_type application/json; }}
        location = /stream.sse {{ types {{}} default_type text/event-stream; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Base URLs without `/v1`."""

    whole_url: str
    paced_url: str
    made_of: str

    def base_url(self, kind: str, tokens: int) -> str:
        """`kind` is plain, stream or paced; `tokens` are those of a paced answer."""
        if kind == "paced":
            return f"{self.paced_url}/paced/{tokens}/v1"
        return f"{self.whole_url}/{kind}/v1"


@contextmanager
def upstream(folder: Path) -> Iterator[Upstream]:
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    with ExitStack() as stack:
        paced = stack.enter_context(_mock_server(folder))
        if nginx is None:
            yield Upstream(paced, paced, "mock of uvloop and httptools: no nginx found")
        else:
            yield Upstream(stack.enter_context(_nginx(nginx, folder)), paced, "nginx, one worker")


@contextmanager
def _mock_server(folder: Path) -> Iterator[str]:
    port = free_port()
    log = folder / "mock_server.log"
    command = [sys.executable, "-m", "benchmarks.gateways.mock_server", str(port)]
    with running(command, dict(os.environ), log) as process:
        wait_for(f"http://127.0.0.1:{port}/plain", process, log)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _nginx(binary: str, folder: Path) -> Iterator[str]:
    port = free_port()
    config = write_nginx_config(folder, port)
    log = folder / "nginx.log"
    command = [binary, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    with running(command, dict(os.environ), log) as process:
        wait_for(f"http://127.0.0.1:{port}/plain/", process, log)
        yield f"http://127.0.0.1:{port}"


def write_nginx_config(folder: Path, port: int) -> Path:
    """Also writes the answers; its workers may run as another user, who must be able to read."""
    folder.chmod(0o755)
    (folder / "completion.json").write_bytes(answers.completion())
    (folder / "stream.sse").write_bytes(answers.stream())
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=folder, port=port))
    return config
