"""The tokens of one process: one request at a time, renewed before their end, kept while they are valid."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.processors.mailer.oauth import source as module
from functions.processors.mailer.oauth.grant import AccessToken
from functions.processors.mailer.oauth.request import NoToken
from functions.processors.mailer.oauth.source import TokenSource, shared
from tests.support.clients.relaying import endless


class Asks:
    """Gives tokens that live `life` seconds, raises `fault`, or waits for `gate` first."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.life = 3_600.0
        self.asked = 0
        self.fault: NoToken | Exception | None = None
        self.gate: threading.Event | None = None
        self.asking = threading.Event()

    def ask(self, limit: Callable[[], float]) -> AccessToken:
        self.asked += 1
        number = self.asked
        self.asking.set()
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.fault is not None:
            raise self.fault
        return AccessToken(f"t{number}", self.now + self.life)


@pytest.fixture
def asks() -> Asks:
    return Asks()


@pytest.fixture
def source(asks: Asks) -> TokenSource:
    return TokenSource(asks, "u@x", clock=lambda: asks.now)


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST", 0.0)


@pytest.mark.parametrize(("life", "renewed"), [(3_600.0, 3_300.0), (600.0, 300.0), (60.0, 30.0)])
def test_a_token_is_used_until_five_minutes_before_its_end(
    asks: Asks, source: TokenSource, life: float, renewed: float
) -> None:
    asks.life = life
    assert source.token(endless) == "t1"
    asks.now += renewed - 1
    assert source.token(endless) == "t1"
    asks.now += 1
    assert source.token(endless) == "t2"
    assert asks.asked == 2


def test_many_deliveries_wait_for_one_request(asks: Asks, source: TokenSource) -> None:
    asks.gate = threading.Event()
    with ThreadPoolExecutor(20) as pool:
        found = [pool.submit(source.token, endless) for _ in range(20)]
        assert asks.asking.wait(10)
        asks.gate.set()
        assert {each.result(10) for each in found} == {"t1"}
    assert asks.asked == 1


def test_others_go_on_with_a_valid_token_while_one_renews_it(asks: Asks, source: TokenSource) -> None:
    source.token(endless)
    asks.now += 3_400
    asks.gate, asks.asking = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(source.token, endless)
        assert asks.asking.wait(10)
        assert [source.token(endless) for _ in range(5)] == ["t1"] * 5
        asks.gate.set()
        assert renewing.result(10) == "t2"
    assert source.token(endless) == "t2"


def test_all_that_wait_get_the_fault_of_one_request(
    asks: Asks, source: TokenSource, caplog: pytest.LogCaptureFixture
) -> None:
    asks.gate, asks.fault = threading.Event(), NoToken("down", enhanced="4.4.1")
    with ThreadPoolExecutor(20) as pool:
        found = [pool.submit(source.token, endless) for _ in range(20)]
        assert asks.asking.wait(10)
        asks.gate.set()
        for each in found:
            with pytest.raises(NoToken, match="down") as caught:
                each.result(10)
            assert caught.value.enhanced == "4.4.1"
    with pytest.raises(NoToken, match="down"):
        source.token(endless)
    assert asks.asked == 1, "the endpoint is left alone for a while"
    (told,) = caplog.records
    assert (told.levelno, told.getMessage()) == (logging.ERROR, "no access token")
    assert vars(told)["no_login"] is True


@pytest.mark.usefixtures("restless")
def test_a_failed_renewal_leaves_the_valid_token(
    asks: Asks, source: TokenSource, caplog: pytest.LogCaptureFixture
) -> None:
    source.token(endless)
    asks.now += 3_400
    asks.fault = NoToken("down")
    assert source.token(endless) == "t1"
    assert source.token(endless) == "t1"
    asks.now += 200
    with pytest.raises(NoToken, match="down"):
        source.token(endless)
    asks.fault = None
    caplog.set_level(logging.INFO)
    assert source.token(endless) == f"t{asks.asked}"
    said = [each.getMessage() for each in caplog.records]
    assert said == ["no access token", "access tokens come again"], "told once, not for each mail"


@pytest.mark.usefixtures("restless")
def test_an_unexpected_error_blocks_no_other_delivery(asks: Asks, source: TokenSource) -> None:
    asks.fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        source.token(endless)
    asks.fault = None
    assert source.token(endless) == "t2"


def test_only_the_token_that_was_refused_is_given_up(asks: Asks, source: TokenSource) -> None:
    source.token(endless)
    source.refused("t1")
    assert source.token(endless) == "t2"
    source.refused("t1")
    assert source.token(endless) == "t2"


def test_a_delivery_does_not_wait_beyond_its_time(asks: Asks, source: TokenSource) -> None:
    asks.gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(source.token, endless)
        assert asks.asking.wait(10)
        times = iter([0.05, 0.0])
        with pytest.raises(NoToken, match="too little of the run is left"):
            source.token(lambda: next(times))
        asks.gate.set()
        first.result(10)


def test_a_token_that_is_known_already_is_used_first(asks: Asks) -> None:
    known = TokenSource(asks, "u", AccessToken("given", float("inf")), clock=lambda: asks.now)
    assert known.token(endless) == "given"
    known.refused("given")
    assert known.token(endless) == "t1"
    ended = TokenSource(asks, "u", AccessToken("old", asks.now - 1), clock=lambda: asks.now)
    assert ended.token(endless) == "t2"


def test_equal_inputs_share_their_tokens(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_sources", {})
    monkeypatch.setattr(module, "MOST", 3)

    def made(*inputs: object) -> TokenSource:
        return shared(list(inputs), lambda: TokenSource(asks, "u"))

    first = made("a", {"secret": "x"})
    assert made("a", {"secret": "x"}) is first
    assert made("a", {"secret": "y"}) is not first
    made("b"), made("c"), made("d")
    assert made("a", {"secret": "x"}) is not first, "the oldest are dropped"
