"""The client of the hub: requests with retries, and one sentence for each way in which they can fail.

    client = HubClient(on_note=print)
    listing = client.list_files("org/repo", None)         commit, files with sizes and checksums, license
    client.open(client.address("org/repo", listing.commit, "config.json"), "org/repo")

A hub with another interface is a subclass that overrides `list_files` and `address`; a mirror of the hub needs only HF_ENDPOINT.

`huggingface_hub` supplies the connection, the list of files, the typed errors and the rate limits. Its own download starts
again at byte 0 in a new process, so files are streamed here. The HTTP library keeps the token from other hosts on a redirect.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
from huggingface_hub import HfApi, constants, errors, get_session, get_token
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, parse_ratelimit_headers

from llasa_cli import __version__
from llasa_cli.errors import ModelError
from llasa_cli.hub.cache_layout import RemoteFile, is_commit, is_etag
from llasa_cli.wording import first_line

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

T = TypeVar("T")

_TEMPORARY = (408, 416, 425, 429)
"""Status codes of errors that may pass, besides all of 500 and more."""
_LINK_EXPIRED = (400, 401, 403, 404, 410)
"""Answers of the host of big files to a signed link that is too old. The hub is then asked for a new one."""
_SMALL_BYTES = 16 << 20
"""Configuration files are read into memory up to this size; larger ones are refused."""
_NETWORK_SETTINGS = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class RetryPolicy:
    """The retries of a download over a failing network."""

    tries: int = 6
    """Requests in a row without a new byte before the download fails."""
    first_tries: int = 3
    """`tries` until the first answer: there may be no network at all."""
    first_pause_s: float = 1.0
    """The pause before the second try; each later pause is twice as long."""
    longest_pause_s: float = 30.0
    longest_wait_s: float = 320.0
    """The longest Retry-After that is followed; the hub counts its limits over 300 s."""
    timeout_s: float | None = None
    """Silence after which a connection is closed; None takes HF_HUB_DOWNLOAD_TIMEOUT (10 s)."""
    copies: int = 3
    """The number of times that a file with a wrong checksum is fetched from the beginning."""


@dataclass
class TransientError(Exception):
    """A request failed in a way that may pass.

    Attributes:
        reason: A clause without a full stop, such as "the connection was lost".
        wait_s: Seconds that the server asks the client to wait.
    """

    reason: str
    wait_s: float = 0.0


@dataclass(frozen=True)
class RepoListing:
    """A hub's description of one revision of a repository.

    Attributes:
        commit: 40 hexadecimal digits, which name the revision's content.
        files: All files. Their names may still be unsafe; their checksums are not.
        license: The license in one printable line; empty if none is stated.
    """

    commit: str
    files: tuple[RemoteFile, ...]
    license: str


class HubClient:
    """Requests to the hub that HF_ENDPOINT names.

    Args:
        policy: The retries over a failing network.
        on_note: Called with one line of text when a request is tried again.

    Raises:
        ModelError: Offline mode is on, or the address, the token, the proxy or the certificates can't be used.
    """

    def __init__(self, policy: RetryPolicy | None = None, on_note: Callable[[str], None] = lambda text: None) -> None:
        self.policy, self.note, self.endpoint = policy or RetryPolicy(), on_note, constants.ENDPOINT
        if constants.HF_HUB_OFFLINE:
            raise ModelError(
                "Offline mode is on: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set.", "Unset it for the download."
            )
        if not re.match(r"https?://([\w.-]+|\[[\da-f:]+\])(:\d+)?(/|$)", self.endpoint):
            raise ModelError(
                f"HF_ENDPOINT {self.endpoint!r} is not an address.", "It looks like https://huggingface.co."
            )
        self.token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise ModelError("The token for the hub contains characters that no token has.", "Set HF_TOKEN again.")
        try:
            get_session()
        except (ImportError, ValueError, OSError) as error:
            found = ", ".join(f"{name}={os.environ[name]}" for name in _NETWORK_SETTINGS if name in os.environ)
            raise ModelError(f"The proxy or the certificates can't be used: {error}", f"Check {found}.") from error
        self._timeout_s = float(self.policy.timeout_s or constants.HF_HUB_DOWNLOAD_TIMEOUT)
        self._has_answered = False
        self._api = HfApi(self.endpoint, self.token or False, library_name="llasa", library_version=__version__)
        headers = build_hf_headers(token=self.token or False, library_name="llasa", library_version=__version__)
        self._headers = {**headers, "Accept-Encoding": "identity"}  # a Range counts the bytes of the file

    # --- requests ---

    def address(self, repo: str, commit: str, name: str) -> str:
        """The address of a file."""
        return f"{self.endpoint}/{repo}/resolve/{quote(commit, safe='')}/{quote(name)}"

    def list_files(self, repo: str, revision: str | None) -> RepoListing:
        """Ask for a revision's commit, files and license.

        Raises:
            ModelError: The repository is missing, gated or unreachable, or the endpoint is not a hub.
        """

        def request() -> ModelInfo:
            with self._translated_errors(repo, self.endpoint):
                return self._api.model_info(repo, revision=revision, files_metadata=True, timeout=self._timeout_s)

        try:
            info = self.with_retries(request, repo)
            commit = str(info.sha)
            if not is_commit(commit):
                raise ModelError(f"{self.endpoint} names no commit for {repo}.", "Check HF_ENDPOINT.")
            return RepoListing(commit, tuple(self._remote_files(info, repo)), _license(info))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(
                f"{self.endpoint} does not answer like a hub.",
                "Check HF_ENDPOINT. Does the network require a login in a browser first?",
            ) from error

    def _remote_files(self, info: ModelInfo, repo: str) -> Iterator[RemoteFile]:
        """The files with their checksums, which become file names and so are checked here."""
        for item in info.siblings or ():
            lfs: Any = item.lfs or {}
            size, etag = lfs.get("size") or item.size or 0, str(lfs.get("sha256") or item.blob_id)
            if not isinstance(size, int) or size < 0 or not is_etag(etag):
                with self._translated_errors(repo, self.endpoint):
                    self._api.auth_check(repo)  # the token may not open the repository, which explains it
                raise ModelError(
                    f"The hub names no checksum for {item.rfilename[:80]!r} of {repo}.",
                    "Is HF_ENDPOINT a mirror that leaves checksums out? Use another one.",
                )
            yield RemoteFile(item.rfilename, size, etag)

    def read_file(self, repo: str, commit: str, file: RemoteFile) -> bytes:
        """Read a small file into memory and check it.

        Raises:
            ModelError: As for `list_files`; or the file is too big, or differs from its checksum each time.
        """
        if file.size > _SMALL_BYTES:
            raise ModelError(f"{file.name} of {repo} has {file.size:,} bytes, too many for a configuration file.")

        def request() -> bytes:
            with self.open(self.address(repo, commit, file.name), repo) as response:
                content: bytes = response.read()
            digest = file.new_digest()
            digest.update(content)
            if digest.hexdigest() != file.etag:
                raise TransientError(f"the content of {file.name} does not match the hub's checksum")
            return content

        return self.with_retries(request, repo)

    @contextmanager
    def open(self, address: str, repo: str, start: int = 0) -> Iterator[httpx2.Response]:
        """A streamed answer of the HTTP library, from byte `start` on if the host supports it.

        Raises:
            TransientError: The request, or reading the body, failed in a way that may pass.
            ModelError: It failed for good.
        """
        headers = self._headers | ({"Range": f"bytes={start}-"} if start else {})
        with (
            self._translated_errors(repo, address),
            get_session().stream("GET", address, headers=headers, timeout=self._timeout_s) as response,
        ):
            self._has_answered = True
            hf_raise_for_status(response)
            yield response

    def with_retries(self, request: Callable[[], T], repo: str, progress: Callable[[], int] = lambda: 0) -> T:
        """Call `request` until it succeeds, after longer and longer pauses.

        Args:
            progress: A number that is larger than ever before if the failed request has brought something new. The count
                of failures starts again then.

        Raises:
            ModelError: It failed too often in a row, or the server asks for too long a pause.
        """
        policy, failures, furthest = self.policy, 0, progress()
        while True:
            try:
                return request()
            except TransientError as failure:
                failures = failures + 1 if progress() <= furthest else 1
                furthest = max(furthest, progress())
                tries = policy.tries if self._has_answered else policy.first_tries
                is_too_long = failure.wait_s > policy.longest_wait_s
                if failures >= tries or is_too_long:
                    wait = f" The server asks for a pause of {failure.wait_s:.0f} s." if is_too_long else ""
                    raise ModelError(
                        f"{repo} can't be downloaded: {failure.reason}.{wait}",
                        "Check the connection and run the command again: it resumes where it stopped.",
                    ) from failure
                pause_s = max(failure.wait_s, min(policy.first_pause_s * 2 ** (failures - 1), policy.longest_pause_s))
                self.note(f"{failure.reason}; trying again in {pause_s:.0f} s ({failures} of {tries - 1})")
                time.sleep(pause_s)

    # --- errors ---

    @contextmanager
    def _translated_errors(self, repo: str, address: str) -> Iterator[None]:
        """Turn the errors of `huggingface_hub` and of the HTTP library into TransientError or ModelError."""
        host = urlsplit(address).netloc
        try:
            yield
        except errors.HfHubHTTPError as error:
            self._has_answered = True
            raise self._temporary(error) or self._refusal(error, repo) from error
        except (httpx2.TooManyRedirects, httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise ModelError(f"{self.endpoint} redirects in circles or to no address.", "Check HF_ENDPOINT.") from error
        except httpx2.TimeoutException as error:
            raise TransientError(f"{host} has sent nothing for {self._timeout_s:.0f} s") from error
        except httpx2.RequestError as error:
            reason = _plain(first_line(error))
            if "CERTIFICATE" in reason.upper():
                raise ModelError(
                    f"The certificate of {host} is not trusted ({reason}).",
                    "Behind a proxy that decrypts traffic, set SSL_CERT_FILE to the proxy's certificate.",
                ) from error
            is_connected = not isinstance(error, httpx2.ConnectError)
            what = "the connection was lost" if is_connected else f"{host} can't be reached"
            raise TransientError(f"{what} ({reason})") from error

    def _temporary(self, error: errors.HfHubHTTPError) -> TransientError | None:
        """The error as one that may pass, if it is one."""
        response, status = error.response, error.response.status_code
        if status in _TEMPORARY or status >= 500:
            return TransientError(f"{response.url.host} answers {status}", _asked_wait_s(response.headers))
        # The hub redirects to another host, or a mirror to its own store.
        is_other_host = response.url.netloc.decode() != urlsplit(self.endpoint).netloc
        is_redirected = is_other_host or (bool(response.history) and "X-Error-Code" not in response.headers)
        if status in _LINK_EXPIRED and is_redirected:
            return TransientError(f"{response.url.host} refuses the hub's link ({status})")
        return None

    def _refusal(self, error: errors.HfHubHTTPError, repo: str) -> ModelError:
        """The error as a sentence and what to do about it."""
        status, said = error.response.status_code, _plain(error.server_message or "")
        page, tokens = f"{self.endpoint}/{repo}", f"{self.endpoint}/settings/tokens"
        reason = f": {said}" if said else ""
        is_gated = isinstance(error, errors.GatedRepoError)
        if "Invalid credentials" in said or "Invalid username" in said:
            return ModelError(
                f"The hub does not accept the token ({status}).",
                f"Create a new one at {tokens} and set HF_TOKEN to it, or run `hf auth login`.",
            )
        if is_gated and not self.token:
            return ModelError(
                f"{repo} is gated, and no token is set.",
                f"Log in, accept the terms at {page}, create a token that may read at {tokens}, and set HF_TOKEN to it"
                " (or run `hf auth login`).",
            )
        if is_gated and "fine-grained" in said:
            return ModelError(
                f"{repo} is gated, and your token may not read gated repositories.", f"Allow it at {tokens}."
            )
        if is_gated:
            return ModelError(
                f"{repo} is gated, and the account of your token has no access ({status}).",
                f"Accept the terms at {page} with that account. Some authors grant access by hand, which takes time.",
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return ModelError(f"{repo} has no such revision.", f"Its branches and tags: {page}/tree/main")
        if isinstance(error, errors.DisabledRepoError) or status == 451:
            return ModelError(f"The hub has disabled {repo}.", f"See {page}.")
        if isinstance(error, errors.RepositoryNotFoundError):
            token = "with your token" if self.token else "without a token"
            return ModelError(
                f"The hub shows no repository {repo} {token}.", f"Check {page}. A private one needs HF_TOKEN."
            )
        if status == 403:
            return ModelError(
                f"Your token may not read {repo} (403){reason}.",
                f"Check at {tokens} that it may read gated repositories.",
            )
        return ModelError(f"{error.response.url.host} answers {status} for {repo}{reason}.", f"See {page}.")


def _license(info: ModelInfo) -> str:
    stated: Any = info.card_data.get("license") if info.card_data is not None else None
    return _plain(", ".join(map(str, stated)) if isinstance(stated, list) else str(stated or ""))[:80]


def _asked_wait_s(headers: Any) -> float:
    """Seconds of Retry-After, else of the hub's rate limit."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else 0.0


def _plain(text: str) -> str:
    """Text of another machine as one short line without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:200].strip().rstrip(".")
