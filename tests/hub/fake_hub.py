"""A model hub on this machine, over real HTTP, with the answers of the Hugging Face hub and the faults of a network.

    python tests/hub/fake_hub.py FOLDER --port 8000        serves FOLDER/organization/repository/files
    HF_ENDPOINT=http://127.0.0.1:8000 llasa download organization/repository

There are two servers: the hub (lists of files, redirects) and the host of big files, which is another origin and must never
receive a token. The ETag of a small file is its git blob's SHA-1, that of a big file (LFS) its SHA-256. It needs the standard
library only.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_BYTES = 1 << 20
"""Files of this size or more come from the other host. (On the real hub: 10 MB, or by .gitattributes.)"""
_PIECE = 1 << 16


@dataclass
class Fault:
    """A fault that a server has.

    Attributes:
        kind: One of:
            status    answer `status` with `headers`
            drop      close the connection after `at` bytes of the body
            stall     send `at` bytes of the body, then nothing until the client closes the connection
            wrong     flip a bit of byte `at` of the file
            whole     answer a Range with 200 and the whole file, or with its first `at` bytes
            long      send more bytes after the end of the file
            shifted   answer a Range from another byte than the requested one
            zipped    send the body gzip-encoded although that was not requested
            page      answer with `content`: a web page (a captive portal, a wrong endpoint)
            expired   refuse the signed link (403 of the files' host)
        path: A part of the request's path; other requests are answered correctly.
        times: How often the fault occurs; negative means always.
        host: "hub" or "files"; None means both.
        at: Bytes of the requested body (`wrong`: of the file).
    """

    kind: str
    path: str = ""
    times: int = 1
    host: str | None = None
    at: int = 0
    status: int = 500
    content: str = "<html>Please log in to the network.</html>"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """A request that arrived.

    Attributes:
        sent: Bytes of the body that were sent.
    """

    host: str
    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0

    @property
    def start(self) -> int:
        """The first requested byte."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else 0


class FakeHub:
    """Serves folders as repositories.

    Args:
        repositories: Names ("organization/repository") and folders, which are read at each request.
        port: The hub's port; 0 takes a free one. The files' host always takes a free one.

    Attributes:
        requests: All requests, in order.
        faults: The first one that fits a request applies to it.
        gated: Repositories whose files need a token, with the accepted tokens.
        private: Repositories that are hidden without a token.
        names_checksums: Whether lists of files have sizes and checksums.
        extra_names: Names in a repository's list that are not files.
        rate: Bytes a second of each connection; 0 is unlimited.
        hold: Called before each piece of a body, with its path and the bytes sent; it may wait.
    """

    def __init__(self, repositories: Mapping[str, Path], port: int = 0) -> None:
        self.repositories = dict(repositories)
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.gated: dict[str, set[str]] = {}
        self.private: set[str] = set()
        self.names_checksums = True
        self.extra_names: dict[str, list[str]] = {}
        self.card: dict[str, Any] = {"license": "mit"}
        self.rate = 0.0
        self.hold: Callable[[str, int], None] = lambda path, sent: None
        self.lfs_bytes = LFS_BYTES
        self._sums: dict[tuple[str, int, int], tuple[str, str]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._servers = [self._serve("hub", port), self._serve("files", 0)]
        self.url, self.files_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def _serve(self, host: str, port: int) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"hub": self, "host": host})
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
        return server

    def close(self) -> None:
        self._closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> FakeHub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- for tests ---

    def asked(self, part: str, method: str = "GET", host: str | None = None) -> list[Request]:
        """The requests whose path contains a text."""
        return [r for r in self.requests if part in r.path and r.method == method and host in (None, r.host)]

    def commit(self, repo: str) -> str:
        """A commit that changes with the files."""
        listing = [(name, self.sums(path)[0]) for name, path in self.files(repo)]
        return hashlib.sha1(json.dumps(listing).encode()).hexdigest()

    def files(self, repo: str) -> list[tuple[str, Path]]:
        folder = self.repositories[repo]
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        return [(path.relative_to(folder).as_posix(), path) for path in found]

    def is_lfs(self, path: Path) -> bool:
        return path.suffix == ".safetensors" or path.stat().st_size >= self.lfs_bytes

    def sums(self, path: Path) -> tuple[str, str]:
        """The git blob's SHA-1, and SHA-256."""
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        if key not in self._sums:
            git, sha = hashlib.sha1(f"blob {stat.st_size}\0".encode()), hashlib.sha256()
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    git.update(piece)
                    sha.update(piece)
            self._sums[key] = git.hexdigest(), sha.hexdigest()
        return self._sums[key]

    def etag(self, path: Path) -> str:
        return self.sums(path)[1 if self.is_lfs(path) else 0]

    # --- for the handler ---

    def fault(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times and fault.path in request.path and fault.host in (None, request.host):
                    fault.times -= 1
                    return fault
        return None

    @property
    def is_closing(self) -> bool:
        return self._closing.is_set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub
    host: str

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_record = Request(self.host, self.command, self.path, headers)
        if self.path != "/api/agent-harnesses":  # huggingface_hub asks for this list of its own once a day
            self.hub.requests.append(self.request_record)
        fault = self.hub.fault(self.request_record)
        try:
            if fault is not None and fault.kind == "status":
                self._send(fault.status, b"", fault.headers)
            elif fault is not None and fault.kind == "page":
                self._send(200, fault.content.encode(), {"Content-Type": "text/html"})
            elif fault is not None and fault.kind == "expired":
                self._send(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})
            elif self.host == "files":
                self._send_linked(fault)
            else:
                self._answer_as_hub(fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer_as_hub(self, fault: Fault | None) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/auth-check", path):
            if self._may_see(found[1]) and self._may_read(found[1]):
                self._send(200, b"", {})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/.*)?)?", path):
            self._send_about(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/api/resolve-cache/models/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self._send_file(self._file(found[1], found[3]), found[1], fault)
        else:
            self._refuse(404, "RepoNotFound")

    def _token(self) -> str:
        return str(self.headers.get("Authorization", "")).removeprefix("Bearer ")

    def _may_see(self, repo: str) -> bool:
        if repo not in self.hub.repositories or (repo in self.hub.private and not self._token()):
            # As on the real hub, a hidden repository looks like a missing one.
            self._refuse(404 if self._token() else 401, "RepoNotFound")
            return False
        return True

    def _may_read(self, repo: str) -> bool:
        if repo in self.hub.gated and self._token() not in self.hub.gated[repo]:
            self._refuse(403 if self._token() else 401, "GatedRepo")
            return False
        return True

    def _may_go_on(self, repo: str, revision: str | None) -> bool:
        if not self._may_see(repo):
            return False
        if revision not in (None, "main", self.hub.commit(repo)):
            self._refuse(404, "RevisionNotFound")
            return False
        return True

    def _send_about(self, repo: str, what: str | None, revision: str | None) -> None:
        if not self._may_go_on(repo, revision):
            return
        hub, files = self.hub, self.hub.files(repo)
        if what == "tree":
            tree = [self._tree_entry(name, path) for name, path in files]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
            return
        with_blobs = parse_qs(urlsplit(self.path).query).get("blobs") in (["true"], ["True"], ["1"])
        siblings = [self._sibling(name, path, with_blobs) for name, path in files]
        for name in hub.extra_names.get(repo, []):
            siblings.append({"rfilename": name, "size": 10, "blobId": "0" * 40})
        page = {
            "id": repo,
            "modelId": repo,
            "sha": hub.commit(repo),
            "gated": "auto" if repo in hub.gated else False,
            "private": repo in hub.private,
            "cardData": hub.card,
            "siblings": siblings,
        }
        self._send(200, json.dumps(page).encode(), {"Content-Type": "application/json"})

    def _sibling(self, name: str, path: Path, with_blobs: bool) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": name}
        if with_blobs and self.hub.names_checksums:
            entry |= {"size": path.stat().st_size, "blobId": self.hub.sums(path)[0]}
            if self.hub.is_lfs(path):
                entry["lfs"] = {"sha256": self.hub.sums(path)[1], "size": path.stat().st_size, "pointerSize": 134}
        return entry

    def _tree_entry(self, name: str, path: Path) -> dict[str, Any]:
        git, sha = self.hub.sums(path)
        entry: dict[str, Any] = {"type": "file", "path": name, "size": path.stat().st_size, "oid": git}
        if self.hub.is_lfs(path):
            entry["lfs"] = {"oid": sha, "size": path.stat().st_size, "pointerSize": 134}
        return entry

    def _file(self, repo: str, name: str) -> Path:
        return self.hub.repositories[repo] / name

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        hub = self.hub
        if not self._may_go_on(repo, revision):
            return
        if not self._may_read(repo):
            return
        path = self._file(repo, name)
        if name not in [known for known, _ in hub.files(repo)]:
            self._refuse(404, "EntryNotFound", {"X-Repo-Commit": hub.commit(repo)})
            return
        headers = {
            "X-Repo-Commit": hub.commit(repo),
            "X-Linked-Etag": f'"{hub.etag(path)}"',
            "X-Linked-Size": str(path.stat().st_size),
        }
        if hub.is_lfs(path):
            link = f"{hub.files_url}/{repo}/{name}?signature=once"
            self._send(302, b"", {**headers, "Location": link})
        else:
            self._send(307, b"", {**headers, "Location": f"/api/resolve-cache/models/{repo}/{revision}/{name}"})

    def _send_linked(self, fault: Fault | None) -> None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/(.+)", unquote(urlsplit(self.path).path))
        if found is None or found[1] not in self.hub.repositories:
            self._send(404, b"", {})
            return
        self._send_file(self._file(found[1], found[2]), found[1], fault)

    def _send_file(self, path: Path, repo: str, fault: Fault | None) -> None:
        """Send a file, or the rest of it, with the fault."""
        size, kind = path.stat().st_size, fault.kind if fault is not None else ""
        start, status = self.request_record.start, 200
        headers = {"ETag": f'"{self.hub.etag(path)}"', "Accept-Ranges": "bytes"}
        if kind == "whole":
            start = 0
        elif start > 0 and start >= size:
            self._send(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        elif "range" in self.request_record.headers:
            status = 206
            start += 1 if kind == "shifted" else 0
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        if self.host == "hub":
            headers["X-Repo-Commit"] = self.hub.commit(repo)
        pieces: Iterator[bytes] = _pieces(path, start, fault.at if fault and kind == "wrong" else None)
        length: int | None = size - start
        if kind == "zipped":
            body = gzip.compress(b"".join(pieces))
            pieces, length = iter([body]), len(body)
            headers["Content-Encoding"] = "gzip"
        if kind == "long":
            pieces, length = _and_more(pieces), None
        self._begin(status, length, headers)
        if self.command == "GET":
            self._pour(pieces, fault)

    def _pour(self, pieces: Iterator[bytes], fault: Fault | None) -> None:
        record, hub = self.request_record, self.hub
        is_cut = fault is not None and (fault.kind in ("drop", "stall") or (fault.kind == "whole" and fault.at > 0))
        end = fault.at if fault is not None and is_cut else None
        if end is not None:
            # Write no further than the fault, so that these bytes do arrive.
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            hub.hold(record.path, record.sent)
            part = piece if end is None else piece[: end - record.sent]
            self.wfile.write(part)
            record.sent += len(part)
            if hub.rate:
                time.sleep(len(part) / hub.rate)
            if end is not None and record.sent >= end:
                break
        else:
            return
        self.wfile.flush()
        while fault is not None and fault.kind == "stall" and not self._client_left():
            time.sleep(0.02)
        self.close_connection = True

    def _client_left(self) -> bool:
        if self.hub.is_closing:
            return True
        self.connection.settimeout(0.02)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": f"{code}.", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._begin(status, len(body), headers)
        if self.command == "GET":
            self.wfile.write(body)
            self.request_record.sent = len(body)

    def _begin(self, status: int, length: int | None, headers: dict[str, str]) -> None:
        self.request_record.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()


def _pieces(path: Path, start: int, flipped: int | None) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(_PIECE):
            where = -1 if flipped is None else flipped - (file.tell() - len(piece))
            if 0 <= where < len(piece):
                piece = piece[:where] + bytes([piece[where] ^ 1]) + piece[where + 1 :]
            yield piece


def _and_more(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    while True:
        yield bytes(_PIECE)


def repositories_in(folder: Path) -> dict[str, Path]:
    """The names and folders of FOLDER/organization/repository."""
    return {
        f"{path.parent.name}/{path.name}": path
        for path in sorted(folder.glob("*/*"))
        if path.is_dir() and not path.parent.name.startswith(".")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve folders as a model hub.")
    parser.add_argument("folder", type=Path, help="FOLDER/organization/repository/files")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--rate", type=float, default=0.0, help="bytes a second; 0 is unlimited")
    arguments = parser.parse_args()
    with FakeHub(repositories_in(arguments.folder), arguments.port) as hub:
        hub.rate = arguments.rate
        for name in hub.repositories:
            print(f"{name}  commit {hub.commit(name)}", flush=True)
        print(f"HF_ENDPOINT={hub.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
