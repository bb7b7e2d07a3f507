"""From a gauge to a notification, through a real Prometheus and a real Alertmanager with the shipped rules."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.deploy.conftest import Prometheus, Webhook, eventually

ALERT = "TaximeterBudgetThreshold"


class FakeTaximeter:
    """Shows one budget of $100 as taximeter does, on a port that stays the same while it goes away and comes back."""

    def __init__(self) -> None:
        self.used = 0.5
        self.resets_at = int(time.time()) + 86400
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._port}"

    def text(self) -> str:
        budget = 'budget="acme-monthly",period="month"'
        return (
            "taximeter_store_up 1\n"
            f"taximeter_budget_limit_dollars{{{budget}}} 100\n"
            f"taximeter_budget_spent_dollars{{{budget}}} {self.used * 100}\n"
            f"taximeter_budget_held_dollars{{{budget}}} 0\n"
            f"taximeter_budget_used_ratio{{{budget}}} {self.used}\n"
            f'taximeter_budget_alert_at_ratio{{{budget},threshold="0.8"}} 0.8\n'
            f'taximeter_budget_alert_at_ratio{{{budget},threshold="1"}} 1.0\n'
            f"taximeter_budget_reset_timestamp_seconds{{{budget}}} {self.resets_at}\n"
        )

    def come(self) -> None:
        fake = self

        class Metrics(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = fake.text().encode()
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Metrics)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def go(self) -> None:
        if self._server and self._thread:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self._server = self._thread = None


@pytest.fixture
def taximeter() -> Iterator[FakeTaximeter]:
    fake = FakeTaximeter()
    fake.come()
    yield fake
    fake.go()


@pytest.mark.slow
def test_each_threshold_is_told_once_in_a_period(
    taximeter: FakeTaximeter,
    prometheus: Callable[[Sequence[str]], Prometheus],
    webhook: Webhook,
) -> None:
    server = prometheus([taximeter.target])
    eventually(lambda: server.query("taximeter:budget_used:ratio"), within=10, what="the gauges are read")
    assert server.alerts() == []

    # 80% is told once, soon
    taximeter.used = 0.85
    seconds = eventually(lambda: webhook.of(ALERT), within=12, what="80% is told")
    print(f"from 80% to the webhook: {seconds:.1f} s")
    ((_, told),) = webhook.of(ALERT)
    (alert,) = told["alerts"]
    assert (told["status"], alert["labels"]["threshold"], alert["labels"]["severity"]) == ("firing", "0.8", "warning")
    assert alert["annotations"]["summary"] == "Budget acme-monthly is over 80%"
    assert alert["annotations"]["description"].startswith("$85.00 spent of $100.00 (85%). The month ends at ")

    # taximeter is away for several scrapes, then back
    taximeter.go()
    eventually(lambda: server.query("up") and server.query("up")[0][1] == 0, within=5, what="the scrape fails")
    eventually(lambda: not server.query("taximeter_budget_used_ratio"), within=5, what="the gauges are gone")
    time.sleep(3)
    assert [labels["threshold"] for labels in server.alerts(ALERT)] == ["0.8"]
    taximeter.come()
    eventually(lambda: server.query("taximeter_budget_used_ratio"), within=5, what="the gauges are back")

    # 100% is the second notification, and nothing was told in between
    taximeter.used = 1.0
    seconds = eventually(lambda: len(webhook.of(ALERT)) > 1, within=12, what="100% is told")
    print(f"from 100% to the webhook: {seconds:.1f} s")
    assert [
        (body["status"], body["alerts"][0]["labels"]["threshold"], body["alerts"][0]["labels"]["severity"])
        for _, body in webhook.of(ALERT)
    ] == [("firing", "0.8", "warning"), ("firing", "1", "critical")]

    # the reset comes while taximeter is away: silent without a new sample
    taximeter.resets_at = int(time.time()) + 4
    time.sleep(2.5)
    taximeter.go()
    eventually(lambda: not server.alerts(ALERT), within=8, what="the alerts end with the period")
    assert time.time() >= taximeter.resets_at
