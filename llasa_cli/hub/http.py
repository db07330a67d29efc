"""HTTP to the hub: requests that are tried again, and a sentence for each way in which they can fail.

The HTTP library is the one that the hub's own library stands on; it keeps a token from other hosts when it is redirected.
"""

from __future__ import annotations

import email.utils
import importlib
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

from llasa_cli.errors import ModelError
from llasa_cli.hub.cache_layout import RemoteFile
from llasa_cli.hub.checksum import Sum
from llasa_cli.settings import RetryPolicy

_PASSING = (408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530)
"""Answers that may be another one soon; 520 and up are those of proxies before a server."""
_LINK_ENDED = (400, 401, 403, 404, 410)
"""What the host of big files answers when a signed link is too old: the hub is asked for a new one."""
SMALL_BYTES = 16 << 20
"""Configuration and lists are read into memory up to this size; larger ones are refused."""


class Retry(Exception):
    """A request failed in a way that may pass.

    Args:
        why: In a few words, to be read after a colon.
        wait_s: How long the other side asks to be left alone.
    """

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.why, self.wait_s = why, wait_s


class WrongPart(Retry):
    """A host that can't send a part of a file: it is asked for the whole file from now on."""


class Wire:
    """A connection to the hub.

    Args:
        patience: How long a failing network is put up with.
        on_note: Told, in a line, when something is tried again.
    """

    def __init__(self, patience: RetryPolicy | None = None, on_note: Callable[[str], None] = lambda text: None) -> None:
        from huggingface_hub import constants, get_token

        self.patience = patience or RetryPolicy()
        self.note = on_note
        self.endpoint = constants.ENDPOINT
        if constants.HF_HUB_OFFLINE:
            raise ModelError(
                "Nothing can be fetched: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set.", "Unset it for the download."
            )
        if not _is_address(self.endpoint):
            raise ModelError(f"HF_ENDPOINT {self.endpoint!r} is no address.", "It looks like https://huggingface.co.")
        self.token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        self._http, self._has_answered = _library(), False
        silence = self.patience.timeout_s or constants.HF_HUB_DOWNLOAD_TIMEOUT
        self._client = self._opened(silence)

    def _opened(self, silence_s: float) -> Any:
        """The library's client; proxies and certificates come from the environment."""
        headers, timeout = self._headers(), self._http.Timeout(silence_s)
        try:
            return self._http.Client(follow_redirects=True, timeout=timeout, headers=headers)
        except ImportError as error:
            raise ModelError(f"The proxy can't be used: {error}", "pip install socksio; or unset ALL_PROXY.") from error
        except ValueError as error:
            raise ModelError(
                f"The proxy can't be used: {error}", "HTTPS_PROXY looks like http://proxy:3128."
            ) from error
        except OSError as error:  # of ssl
            named = [f"{name}={os.environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ]
            hint = f"Look at {' and '.join(named)}." if named else "Is the package certifi whole?"
            raise ModelError(f"The certificates can't be read: {error}.", hint) from error

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _headers(self) -> dict[str, str]:
        from llasa_cli import __version__

        # Compressed, the bytes would not be those that a Range counts.
        headers = {"User-Agent": f"llasa/{__version__}", "Accept-Encoding": "identity"}
        if self.token:
            if not self.token.isascii() or not self.token.isprintable():
                raise ModelError("The hub's token has characters that no token has.", "Set HF_TOKEN again.")
            headers["Authorization"] = f"Bearer {self.token}"
        return headers

    # --- addresses ---

    def page(self, repo: str) -> str:
        """What a person opens."""
        return f"{self.endpoint}/{repo}"

    def address(self, repo: str, commit: str, name: str) -> str:
        return f"{self.endpoint}/{repo}/resolve/{quote(commit, safe='')}/{quote(name)}"

    # --- requests ---

    def about(self, repo: str, revision: str | None) -> dict[str, Any]:
        """What the hub says of a repository: commit, files, sizes, sums, licence.

        Raises:
            ModelError: Not there, not allowed, not reachable, or no hub.
        """
        address = f"{self.endpoint}/api/models/{repo}/revision/{quote(revision or 'main', safe='')}?blobs=true"
        raw = self.patiently(lambda: self._read(address, repo, SMALL_BYTES), repo)
        try:
            about = json.loads(raw)
            if isinstance(about, dict) and isinstance(about.get("siblings"), list):
                return about
        except ValueError:
            pass
        raise ModelError(
            f"{self.endpoint} does not answer as a hub does.",
            "Is HF_ENDPOINT right? Or does the network want a login first?",
        )

    def read(self, repo: str, commit: str, file: RemoteFile) -> bytes:
        """A small file, whole, checked against its sum.

        Raises:
            ModelError: As `about`; or it is too big, or other bytes come than the hub promises.
        """
        if file.size > SMALL_BYTES:
            raise ModelError(f"{file.name} of {repo} is {file.size:,} bytes: that is no configuration.")

        def once() -> bytes:
            content = self._read(self.address(repo, commit, file.name), repo, SMALL_BYTES)
            digest = Sum(file)
            digest.add(content)
            if len(content) != file.size or not digest.is_right():
                raise Retry(f"{file.name} came with other bytes than the hub names")
            return content

        return self.patiently(once, repo)

    def check_let_in(self, repo: str, commit: str, name: str) -> None:
        """Ask for a file that is not needed.

        Raises:
            ModelError: Its repository is gated, and the token does not open it.
        """

        def once() -> None:
            with self.open(self.address(repo, commit, name), repo):
                pass

        self.patiently(once, repo)

    def patiently(self, call: Callable[[], Any], repo: str) -> Any:
        """Run a call; again while what fails may pass.

        Raises:
            ModelError: It did not pass.
        """
        for attempt in itertools.count(1):
            try:
                return call()
            except Retry as failure:
                self.wait(failure, attempt, repo)
        raise AssertionError("the last wait raises")

    def wait(self, failure: Retry, attempt: int, repo: str) -> None:
        """Sleep before the next try, or give up.

        Args:
            attempt: Tries in a row that have failed, this one included.
        """
        patience = self.patience
        asked_s = failure.wait_s or 0.0
        tries = patience.tries if self._has_answered else patience.first_tries
        if attempt >= tries or asked_s > patience.longest_wait_s:
            later = f" It asks to be left alone for {asked_s:.0f} s." if asked_s > patience.longest_wait_s else ""
            raise ModelError(
                f"{repo} can't be fetched: {failure.why}.{later}",
                "Check the connection. Run it again: it goes on where it stopped.",
            )
        pause_s = max(asked_s, min(patience.first_pause_s * 2 ** (attempt - 1), patience.longest_pause_s))
        self.note(f"{failure.why}; again in {pause_s:.0f} s ({attempt} of {tries - 1})")
        time.sleep(pause_s)

    @contextmanager
    def open(self, address: str, repo: str, start: int = 0) -> Iterator[Any]:
        """An answer whose body is still to be read, from byte `start` where the other side knows how.

        Raises:
            Retry: It may pass; also raised for what goes wrong while the body is read.
            ModelError: It won't.
        """
        http = self._http
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            with self._client.stream("GET", address, headers=headers) as response:
                self._has_answered = True
                self._check(response, repo)
                yield response
        except http.TooManyRedirects as error:
            raise ModelError(f"{self.endpoint} leads in circles.", "Is HF_ENDPOINT right?") from error
        except (http.UnsupportedProtocol, http.InvalidURL) as error:
            raise ModelError(f"{self.endpoint} leads to no address: {error}.", "Is HF_ENDPOINT right?") from error
        except http.TimeoutException as error:
            raise Retry(f"nothing has come from {_host(address)} for {self._silence_s():.0f} s") from error
        except http.ConnectError as error:
            raise _no_connection(error, _host(address)) from error
        except http.RequestError as error:
            raise Retry(f"the connection broke off ({_first_line(error)})") from error

    def _silence_s(self) -> float:
        return float(self._client.timeout.read or 0)

    def _read(self, address: str, repo: str, limit: int) -> bytes:
        content = bytearray()
        with self.open(address, repo) as response:
            for piece in response.iter_bytes():
                content += piece
                if len(content) > limit:
                    raise ModelError(f"{_host(address)} sends more than a list or a configuration can be.")
        return bytes(content)

    # --- what an answer means ---

    def _check(self, response: Any, repo: str) -> None:
        status = response.status_code
        if status in (200, 206):
            return
        host = response.url.host
        if status in _PASSING:
            raise Retry(_passing(status, host), _asked_wait_s(response.headers))
        if status in _LINK_ENDED and self._was_a_link(response):
            raise Retry(f"{host} refuses the hub's link ({status})")
        if status == 416:
            raise WrongPart(f"{host} has no such part of the file (416)")
        raise self._refusal(response, repo)

    def _was_a_link(self, response: Any) -> bool:
        """Not the hub itself answers, but where it has sent us: another host, or a mirror's own store."""
        own = self._http.URL(self.endpoint)
        elsewhere = (response.url.host, response.url.port) != (own.host, own.port)
        return elsewhere or (bool(response.history) and "X-Error-Code" not in response.headers)

    def _refusal(self, response: Any, repo: str) -> ModelError:
        """401, 403, 404 and the like, in a sentence."""
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        said = _plain(response.headers.get("X-Error-Message", ""))
        page = self.page(repo)
        if "Invalid credentials" in said or "Invalid username" in said:
            return ModelError(
                f"The hub does not know the token it was given ({status}).",
                f"Make a new one at {self.endpoint}/settings/tokens and set HF_TOKEN to it, or `hf auth login`.",
            )
        if code == "GatedRepo":
            return self._gated(status, said, page, repo)
        if code == "RevisionNotFound":
            return ModelError(f"{repo} has no such revision.", f"Its branches and tags: {page}/tree/main")
        if code == "EntryNotFound":
            return ModelError(
                f"{repo} lists a file that it does not have.", "Run it again; if it stays, tell its owner."
            )
        if status == 451 or "disabled" in said.lower():
            return ModelError(f"The hub has taken {repo} out of service.", f"See {page}.")
        if code == "RepoNotFound" or status in (401, 404):
            token = "with your token" if self.token else "without a token"
            return ModelError(
                f"The hub has no {repo} that may be seen {token}.", f"Check {page}; a private one needs HF_TOKEN."
            )
        if status == 403:
            return ModelError(
                f"The hub does not let your token have {repo} (403){': ' + said if said else ''}.",
                f"Check at {self.endpoint}/settings/tokens that it may read gated repositories.",
            )
        return ModelError(
            f"{response.url.host} answers {status} for {repo}{': ' + said if said else ''}.", f"See {page}."
        )

    def _gated(self, status: int, said: str, page: str, repo: str) -> ModelError:
        tokens = f"{self.endpoint}/settings/tokens"
        if not self.token:
            return ModelError(
                f"{repo} is gated, and there is no token.",
                f"Log in and accept its terms at {page}, make a token at {tokens} that may read, and set HF_TOKEN to it"
                " (or `hf auth login`).",
            )
        if "fine-grained" in said:
            return ModelError(
                f"{repo} is gated, and your token may not read gated repositories.", f"Allow it at {tokens}."
            )
        return ModelError(
            f"{repo} is gated, and the account of your token has not been let in ({status}).",
            f"Accept its terms at {page} with that account; some authors let people in by hand, which takes time.",
        )


def _library() -> Any:
    """httpx2 of huggingface_hub 2, or httpx of 1: the same interface."""
    for name in ("httpx2", "httpx"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModelError("There is no httpx to fetch with.", "It comes with: pip install --upgrade huggingface_hub")


def _passing(status: int, host: str) -> str:
    if status == 429:
        return f"{host} has had too many requests (429)"
    return f"{host} answers {status}"


def _no_connection(error: Exception, host: str) -> Retry | ModelError:
    """No connection at all: a name that does not exist is not tried six times."""
    text = _first_line(error)
    if "CERTIFICATE" in text.upper():
        return ModelError(
            f"The certificate of {host} can't be trusted ({text}).",
            "Behind a proxy that reads along, SSL_CERT_FILE names its certificate.",
        )
    return Retry(f"{host} can't be reached ({text})")


def _asked_wait_s(headers: Any) -> float | None:
    """Retry-After, in seconds or as a date; else the hub's own `RateLimit: "api";r=0;t=55`."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    if text:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except (TypeError, ValueError):
            return None
    found = re.search(r";\s*r=0\s*;\s*t=(\d{1,6})", headers.get("RateLimit", ""))
    return float(found[1]) if found else None


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _host(address: str) -> str:
    return urlsplit(address).netloc


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return _plain(lines[0]) if lines else type(error).__name__


def _plain(text: str) -> str:
    """What another machine said: one line, without control characters, not endless."""
    return "".join(c if c.isprintable() else " " for c in text)[:200].strip().rstrip(".")
