"""Each way in which a hub can refuse is reported by a sentence of its own and what to do about it."""

from __future__ import annotations

import pytest

from llasa_cli.errors import ModelError
from llasa_cli.hub.download import plan_download
from llasa_cli.hub.http import HubClient
from tests.hub.conftest import QUICK, REPO
from tests.hub.fake_hub import FakeHub, Fault


def refused(name: str = REPO) -> ModelError:
    with pytest.raises(ModelError) as caught:
        plan_download(HubClient(QUICK), name)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    assert caught.value.message.isprintable(), "the hub's text must not control the terminal"
    return caught.value


def test_gated_without_a_token_names_page_token_page_and_variable(hub: FakeHub) -> None:
    hub.gated[REPO] = {"hf_good"}
    error = refused()
    assert "gated, and no token is set" in error.message
    for part in (f"{hub.url}/{REPO}", f"{hub.url}/settings/tokens", "HF_TOKEN"):
        assert part in error.hint


def test_a_list_without_checksums_is_refused_unless_access_explains_it(hub: FakeHub) -> None:
    hub.names_checksums = False
    assert "names no checksum" in refused().message
    hub.gated[REPO] = {"hf_good"}
    assert "gated, and no token is set" in refused().message


FINE_GRAINED = "Please enable access to public gated repositories in your fine-grained token settings"
GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": FINE_GRAINED}
BAD_TOKEN = {"X-Error-Message": "Invalid credentials in Authorization header"}
DISABLED = {"X-Error-Message": "Access to this resource is disabled."}
COLORED = {"X-Error-Message": "tea\x1b[31m only"}


@pytest.mark.parametrize(
    ("path", "status", "headers", "sentence"),
    [
        ("/resolve/", 403, {"X-Error-Code": "GatedRepo"}, "account of your token has no access"),
        ("/resolve/", 403, GATED, "may not read gated"),
        ("/api/models", 401, BAD_TOKEN, "does not accept the token"),
        ("/api/models", 403, {}, "Your token may not read"),
        ("/api/models", 403, DISABLED, "has disabled"),
        ("/api/models", 451, {}, "has disabled"),
        ("/api/models", 418, COLORED, "answers 418"),
        ("/api/models", 400, {}, "answers 400"),
    ],
)
def test_a_refusal_is_explained_and_not_tried_again(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, path: str, status: int, headers: dict[str, str], sentence: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    hub.faults = [Fault("status", path, status=status, headers=headers)]
    assert sentence in refused().message
    assert sum(request.status == status for request in hub.requests) == 1


def test_a_token_that_can_not_be_one_is_not_sent(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_g\u00fcltig")
    assert "characters that no token has" in refused().message
    assert hub.requests == []


def test_a_missing_repository_and_a_private_one_look_the_same(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no repository somebody/absent without a token" in refused("somebody/absent").message
    hub.private.add(REPO)
    assert "HF_TOKEN" in refused().hint
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    assert "with your token" in refused("somebody/absent").message


def test_a_catalog_name_that_is_not_verified_is_reported_as_such(hub: FakeHub) -> None:
    assert "not verified" in refused("kartoffel").hint


@pytest.mark.parametrize("revision", ["v9", "../../other"])
def test_an_unknown_revision_is_reported(hub: FakeHub, revision: str) -> None:
    assert "no such revision" in refused(f"{REPO}@{revision}").message


def test_a_login_page_is_not_taken_for_a_hub(hub: FakeHub) -> None:
    hub.faults = [Fault("page", "/api/models")]
    error = refused()
    assert "does not answer like a hub" in error.message
    assert "login" in error.hint


@pytest.mark.parametrize("content", ["[]", '{"siblings": [7]}', '{"id": "a/b"}', "{}"])
def test_json_that_describes_no_repository_is_refused(hub: FakeHub, content: str) -> None:
    hub.faults = [Fault("page", "/api/models", content=content)]
    assert refused().message


def test_an_endpoint_that_can_not_be_reached_is_named(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "127.0.0.1:9 can't be reached" in refused().message
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url.replace("http:", "https:"))
    assert "can't be" in refused().message


@pytest.mark.parametrize("endpoint", ["hf-mirror.example", "ftp://x", "http://", "http://[x"])
def test_an_endpoint_that_is_not_an_address_is_named(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    assert "HF_ENDPOINT" in refused().message


def test_circular_redirects_end(hub: FakeHub) -> None:
    hub.faults = [Fault("status", "/api/models", -1, status=302, headers={"Location": "/api/models/x/y"})]
    assert "in circles" in refused().message


def test_offline_mode_sends_nothing(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        HubClient()
    assert hub.requests == []
