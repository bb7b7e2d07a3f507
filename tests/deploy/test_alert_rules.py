"""The shipped rules and configurations, as the tools of Prometheus see them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import ALERT_RULES, DEPLOY, program

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERT_RULES.read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]


def run(*command: str, cwd: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_promtool_accepts_the_rules() -> None:
    checked = run(program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(ALERT_RULES))

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout


def test_promtool_accepts_the_example_of_prometheus() -> None:
    checked = run(program("promtool"), "check", "config", "prometheus/prometheus.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_rules_behave() -> None:
    tested = run(program("promtool"), "test", "rules", "alerts_test.yml", cwd=DEPLOY / "prometheus")

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in ALERTS])
def test_every_alert_says_what_happened_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"]


def test_amtool_accepts_the_example_of_alertmanager() -> None:
    checked = run(program("amtool"), "check-config", "alertmanager/alertmanager.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alertmanager_keeps_its_memory_longer_than_any_period() -> None:
    (route,) = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())["route"]["routes"]
    repeat_hours = int(route["repeat_interval"].removesuffix("h"))

    assert repeat_hours > 31 * 24
    assert "--data.retention=8784h" in (DEPLOY / "README.md").read_text()
    assert repeat_hours < 8784


def test_the_alertmanager_tells_of_each_threshold_owner_and_period_apart() -> None:
    config = str(DEPLOY / "alertmanager" / "alertmanager.yml")
    routed = run(
        program("amtool"), "config", "routes", "test", f"--config.file={config}", "alertname=TaximeterBudgetThreshold"
    )
    (route,) = yaml.safe_load(Path(config).read_text())["route"]["routes"]

    assert routed.stdout.strip() == "budgets"
    assert {"budget", "owner", "period", "threshold", "resets_at"} <= set(route["group_by"])
