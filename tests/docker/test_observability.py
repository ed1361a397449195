"""Dashboards and alerts ask only for what the gateway tells, and every alert has a rule test and a runbook."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from service.metrics import GatewayMetrics

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docker" / "observability"
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
# What Prometheus itself adds to every sample.
ADDED = {"job", "instance", "le"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Where each stands, and what it says."""
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{file.stem}: {panel['title']}", target["expr"].replace("$__rate_interval", "1m")


EXPRESSIONS = list(expressions())


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    """Every sample's name and labels."""
    told = {"up": ADDED}
    metrics = GatewayMetrics()
    ours = {item._name: item for item in vars(metrics).values() if isinstance(item, MetricWrapperBase)}
    for family in metrics.registry.collect():
        labels = set(ours[family.name]._labelnames) if family.name in ours else set()
        for suffix in SUFFIXES[family.type]:
            told[family.name.removesuffix(suffix) + suffix] = labels | ADDED
    return told


@pytest.mark.parametrize(("place", "expression"), EXPRESSIONS, ids=[place for place, _ in EXPRESSIONS])
def test_it_asks_for_metrics_and_labels_that_there_are(
    series: dict[str, set[str]], place: str, expression: str
) -> None:
    named = set(re.findall(r"\b(?:fovea|process)_\w+", expression))
    assert named or "up{" in expression, expression
    assert named <= series.keys()
    for name, selectors in re.findall(r"\b(\w+)\{([^}]*(?:\{reference\}[^}]*)?)\}", expression):
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors)) <= series[name], name
    grouped = {
        label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(",")
    }
    assert grouped <= set().union(*(series[name] for name in named))


def test_every_alert_says_what_is_wrong_how_badly_and_where_to_read_on() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert f"\n#### {rule['alert']}\n" in page, rule["alert"]


def test_every_alert_is_seen_to_fire_in_a_rule_test() -> None:
    tests = yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert {rule["alert"] for rule in rules()} == fired


def test_dashboards_are_told_apart_and_use_the_datasource_that_is_provisioned() -> None:
    provisioning = FOLDER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    dashboards = [json.loads(file.read_text()) for file in DASHBOARDS]
    assert len(dashboards) == len({dashboard["uid"] for dashboard in dashboards}) > 0
    for dashboard in dashboards:
        places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
        assert len(set(places)) == len(places)
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)
        for panel in dashboard["panels"]:
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {source["uid"]}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_reads_configuration_rules_and_expressions(tmp_path: Path) -> None:
    def promtool(*arguments: object, cwd: Path = FOLDER) -> None:
        done = subprocess.run(["promtool", *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    promtool("check", "config", "--syntax-only", "prometheus.yml")
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts.test.yml")
    recorded = [{"record": f"checked:{n}", "expr": text} for n, (_, text) in enumerate(EXPRESSIONS)]
    (tmp_path / "dashboards.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
    promtool("check", "rules", "dashboards.yml", cwd=tmp_path)
