"""Each way in which a hub can refuse is a sentence of its own, with what to do about it."""

from __future__ import annotations

import pytest

from llasa_cli.errors import ModelError
from llasa_cli.hub.download import plan
from llasa_cli.hub.http import Wire
from tests.hub.conftest import QUICK, REPO
from tests.hub.fake_hub import FakeHub, Fault


def refused(name: str = REPO) -> ModelError:
    with pytest.raises(ModelError) as caught, Wire(QUICK) as wire:
        plan(wire, name)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    return caught.value


def test_gated_without_a_token(hub: FakeHub) -> None:
    hub.gated[REPO] = {"hf_good"}
    error = refused()
    assert "gated, and there is no token" in error.message
    assert f"{hub.url}/{REPO}" in error.hint
    assert f"{hub.url}/settings/tokens" in error.hint
    assert "HF_TOKEN" in error.hint


def test_a_hub_that_tells_no_sums_is_not_trusted(hub: FakeHub) -> None:
    hub.tells_sums = False
    assert "names no sum" in refused().message
    hub.gated[REPO] = {"hf_good"}
    assert "gated, and there is no token" in refused().message, "it may tell them to those who are let in"


def test_gated_with_the_token_of_somebody_who_was_not_let_in(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated[REPO] = {"hf_good"}
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "has not been let in" in refused().message


def test_gated_with_a_token_that_may_not_read_such(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_narrow")
    said = "Please enable access to public gated repositories in your fine-grained token settings"
    hub.faults = [
        Fault("status", "/resolve/", status=403, headers={"X-Error-Code": "GatedRepo", "X-Error-Message": said})
    ]
    assert "may not read gated" in refused().message


def test_a_token_that_the_hub_does_not_know(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    headers = {"X-Error-Message": "Invalid credentials in Authorization header"}
    hub.faults = [Fault("status", "/api/models", status=401, headers=headers)]
    assert "does not know the token" in refused().message


def test_a_token_that_can_be_none_is_not_sent(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_g\u00fcltig")
    assert "characters that no token has" in refused().message
    assert hub.requests == []


def test_absent_or_private(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no somebody/absent that may be seen without a token" in refused("somebody/absent").message
    hub.private.add(REPO)
    assert "HF_TOKEN" in refused().hint
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    assert "with your token" in refused("somebody/absent").message


def test_a_name_of_the_catalogue_that_is_not_verified_says_so(hub: FakeHub) -> None:
    assert "not verified" in refused("kartoffel").hint


def test_an_unknown_revision(hub: FakeHub) -> None:
    assert "no such revision" in refused(f"{REPO}@v9").message
    assert "no such revision" in refused(f"{REPO}@../../other").message


@pytest.mark.parametrize(
    ("status", "headers", "sentence"),
    [
        (403, {}, "does not let your token have"),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, "out of service"),
        (451, {}, "out of service"),
        (418, {"X-Error-Message": "tea\x1b[31m only"}, "answers 418"),
        (400, {}, "answers 400"),
    ],
)
def test_other_refusals(hub: FakeHub, status: int, headers: dict[str, str], sentence: str) -> None:
    hub.faults = [Fault("status", "/api/models", status=status, headers=headers)]
    error = refused()
    assert sentence in error.message
    assert error.message.isprintable(), "what the hub says must not steer the terminal"
    assert len(hub.requests) == 1, "what will not pass is not tried again"


def test_a_login_page_is_no_hub(hub: FakeHub) -> None:
    hub.faults = [Fault("page", "/api/models")]
    error = refused()
    assert "does not answer as a hub" in error.message
    assert "login" in error.hint


def test_an_address_where_nobody_is(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "127.0.0.1:9 can't be reached" in refused().message
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url.replace("http:", "https:"))
    assert "can't be" in refused().message
    for nonsense in ("hf-mirror.example", "ftp://x", "http://", "http://[x"):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nonsense)
        assert "HF_ENDPOINT" in refused().message + refused().hint


def test_circles_end(hub: FakeHub) -> None:
    hub.faults = [Fault("status", "/api/models", -1, status=302, headers={"Location": "/api/models/x/y"})]
    assert "in circles" in refused().message


def test_offline_asks_nobody(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        Wire()
    assert hub.requests == []
