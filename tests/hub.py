"""A weights hub on this machine: what huggingface_hub asks of the real one for a download, and nothing more.

Small files are served directly under git's digest of 40 digits; weights are kept elsewhere, as on the real hub: the
answer redirects to another host, and carries their SHA-256 and size in headers of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote

_LISTING = re.compile(r"/api/models/(?P<repository>[^/]+(/[^/]+)?)(/revision/(?P<revision>[^/]+))?")
_RESOLVE = re.compile(r"/(?P<repository>[^/]+(/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_LARGE = (".safetensors", ".bin")
EXPIRED = "hf_expired"  # a token that the hub knew


@dataclass
class Repository:
    """Files of each commit; a private one shows itself only to who sends the token, a gated one its names to all."""

    token: str | None = None
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def push(self, files: Mapping[str, bytes], branch: str) -> None:
        """Make these files a branch; the commits that it led to before stay."""
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self.branches[branch] = hashlib.sha1(repr(digests).encode()).hexdigest()
        self.commits[self.branches[branch]] = dict(files)

    def find(self, revision: str) -> str | None:
        """Return the commit of a revision: 40 digits."""
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None


@dataclass(frozen=True)
class Request:
    """What the hub was asked.

    Attributes
    ----------
    line : str
        ``HEAD /owner/name/resolve/main/config.json``
    start : int
        Byte that a download begins at.
    token : str
        Empty if none was sent.
    """

    line: str
    start: int = 0
    token: str = ""


@dataclass
class Hub:
    """The server; use it in a ``with`` statement.

    Attributes
    ----------
    repositories : dict
        ``owner/name`` -> Repository.
    requests : list of Request
        What was asked, in order.
    status : int or None
        Answer everything with this status.
    failures : list of (str, int)
        Answer the next request that begins so with this status, once.
    cuts : list of int
        Close the connection after so many bytes of the next large files, one by one.
    damaged : bool
        Send other bytes than those of the digest that is announced.
    ranges : bool
        Whether downloads can begin in the middle of a file.
    hold : Event or None
        Keep everybody waiting in the middle of each large file until it is set.
    holding : Event
        Set as soon as somebody is kept waiting.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    status: int | None = None
    failures: list[tuple[str, int]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    damaged: bool = False
    ranges: bool = True
    hold: threading.Event | None = None
    holding: threading.Event = field(default_factory=threading.Event)
    _blobs: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, files: Mapping[str, bytes], *, revision: str = "main", token: str | None = None) -> None:
        """Publish files as a revision of a repository."""
        self.repositories.setdefault(name, Repository(token)).push(files, revision)

    @property
    def url(self) -> str:
        """What to set HF_ENDPOINT to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def downloads(self) -> list[str]:
        """Return the names of the files whose content was asked for, in order."""
        gets = [request.line for request in self.requests if request.line.startswith("GET")]
        return [line.rsplit("/", 1)[1] for line in gets if "/api/" not in line]

    def __enter__(self) -> Hub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        with contextlib.suppress(ConnectionError):  # whoever asked is gone
            self._answer()

    do_GET = do_HEAD  # noqa: N815  (http.server looks for these names)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent; `Hub.requests` is the log."""

    def _answer(self) -> None:
        if self.path == "/api/agent-harnesses":  # huggingface_hub's own question, once a day; none of our business
            self._send(404, b"")
            return
        line = f"{self.command} {self.path}"
        byte_range = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(byte_range[1]) if byte_range and self.hub.ranges else 0
        self.hub.requests.append(Request(line, start, self._token()))
        failure = next((failure for failure in self.hub.failures if line.startswith(failure[0])), None)
        if failure is not None:
            self.hub.failures.remove(failure)
            self._send(failure[1], b"")
        elif self._token() == EXPIRED:
            self._send(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif self.hub.status is not None:
            self._send(self.hub.status, b"")
        elif self.path.startswith("/blobs/"):
            self._send_blob(self.hub._blobs[self.path.split("/")[2]], start)
        elif match := _LISTING.fullmatch(self.path):
            self._list(match["repository"], unquote(match["revision"] or "main"))
        elif match := _RESOLVE.fullmatch(self.path.partition("?")[0]):
            self._resolve(match["repository"], unquote(match["revision"]), match["file"])
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _token(self) -> str:
        return self.headers.get("Authorization", "")[len("Bearer ") :]

    def _list(self, repository: str, revision: str) -> None:
        found = self.hub.repositories.get(repository)
        if found is None or (self._token() != (found.token or self._token()) and not found.gated):
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif (commit := found.find(revision)) is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            siblings = [{"rfilename": file} for file in found.commits[commit]]
            listing = {"id": repository, "sha": commit, "siblings": siblings}
            self._send(200, json.dumps(listing).encode())

    def _resolve(self, repository: str, revision: str, file: str) -> None:
        found = self.hub.repositories.get(repository)
        if found is None or self._token() != (found.token or self._token()):
            # The real hub does not tell a stranger which private repositories exist.
            if found is not None and found.gated:
                self._send(403, b"", {"X-Error-Code": "GatedRepo"})
            else:
                self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return
        commit = found.find(revision)
        if commit is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        headers = {"X-Repo-Commit": commit}
        content = found.commits[commit].get(file)
        if content is None:
            self._send(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        elif file.endswith(_LARGE):
            digest = hashlib.sha256(content).hexdigest()
            self.hub._blobs[digest] = content
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            elsewhere = f"http://localhost:{self.server.server_port}/blobs/{digest}/{file}"  # type: ignore[attr-defined]
            self._send(302, b"", headers | {"Location": elsewhere})
        else:
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self._send(200, content, headers | {"ETag": f'"{digest}"'})

    def _send_blob(self, content: bytes, start: int) -> None:
        if self.hub.damaged:
            content = bytes(byte ^ 1 for byte in content)
        cut = self.hub.cuts.pop(0) if self.hub.cuts else None
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        body = content[start:]
        self._begin(206 if start else 200, len(body), headers)
        half = len(body) // 2 if cut is None else cut
        self.wfile.write(body[:half])
        if self.hub.hold is not None:
            self.hub.holding.set()
            self.hub.hold.wait()
        if cut is None:
            self.wfile.write(body[half:])

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._begin(status, len(body), headers or {})
        if self.command == "GET":
            self.wfile.write(body)

    def _begin(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.close_connection = True
