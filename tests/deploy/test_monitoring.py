"""deploy/monitoring speaks of metrics that there are, and they keep to Prometheus's rules, as its own tool sees them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from api import metrics as of_the_api
from api.reference.metrics import PARTS, names
from db.operators.health import CLASSES, Backlog, Health
from tests.deploy.conftest import DEPLOY
from workers import metrics as of_a_worker
from workers.dispatch import metrics as of_the_dispatcher

MONITORING = DEPLOY / "monitoring"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
QUERIES = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
PROCESSES = {"the API": of_the_api.REGISTRY, "a worker": of_a_worker.REGISTRY, "a dispatcher": of_the_dispatcher.REGISTRY}
OF_SCRAPING = {"instance", "job", "le"}


def families() -> dict[str, set[str]]:
    """Of every metric, as a query names it, the labels."""
    known: dict[str, set[str]] = {}
    for part, registry in PARTS.items():
        labels = [set(metric._labelnames) for metric in registry._collector_to_names if isinstance(metric, MetricWrapperBase)]
        own = names(part)
        known |= dict(zip(own, labels[-len(own) :], strict=True))
    return known


def metric_of(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_and_labels_that_there_are(query: str) -> None:
    known = families()
    named = {metric_of(name) for name in re.findall(r"\btextmill_[a-z_]+", query)}
    assert named
    assert named <= known.keys()
    labels = set(re.findall(r"(\w+)\s*(?:=~|=|!=|!~)\s*\"", query))
    labels |= {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", query) for label in group.split(",")}
    assert labels <= OF_SCRAPING | set().union(*(known[name] for name in named))


def test_a_class_that_a_query_names_is_one() -> None:
    assert {name for query in QUERIES for name in re.findall(r'class="(\w+)"', query)} <= set(CLASSES)


def test_every_alert_says_what_it_means_and_how_urgent_it_is() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in {"page", "ticket"}


def promtool(*arguments: str | Path, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], input=given, capture_output=True, check=False)


@needs_promtool
def test_prometheus_takes_the_rules_and_the_places() -> None:
    for what, file in (("rules", "alerts.yaml"), ("config", "prometheus.yaml")):
        checked = promtool("check", what, MONITORING / file)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture
def everything_counted() -> Iterator[None]:
    """A metric with labels is shown once something was counted."""
    touched = []
    for registry in (*PROCESSES.values(), of_the_dispatcher.OF_THE_LEADER):
        for metric in registry._collector_to_names:
            if isinstance(metric, MetricWrapperBase) and metric._labelnames and not metric._metrics:
                metric.labels(*("x" for _ in metric._labelnames))
                touched.append(metric)
    of_the_dispatcher.observe_health(
        Health(1, 0, 0, 0, 0.0, 0, 0, {"in_progress": 1}, {"running": 1}, dict.fromkeys(CLASSES, Backlog(1, 2.0)))
    )
    yield
    of_the_dispatcher.observe_health(None)
    for metric in touched:
        metric.clear()


@needs_promtool
@pytest.mark.usefixtures("everything_counted")
@pytest.mark.parametrize("process", PROCESSES)
def test_what_a_process_shows_keeps_to_the_rules_of_prometheus(process: str) -> None:
    checked = promtool("check", "metrics", given=generate_latest(PROCESSES[process]))
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@needs_promtool
def test_a_name_that_breaks_the_rules_would_be_told() -> None:
    checked = promtool("check", "metrics", given=b"# TYPE textmill_wait_minutes gauge\ntextmill_wait_minutes 1\n")
    assert checked.returncode != 0


def shown(registry: CollectorRegistry) -> set[str]:
    return {family.name for family in registry.collect()}


def test_each_process_shows_its_own_and_what_all_have() -> None:
    of_all = {name for name in shown(PROCESSES["the API"]) if name.startswith(("python_", "process_")) or name == "textmill_build"}
    for one in PROCESSES:
        own = {name for name in shown(PROCESSES[one]) if name.startswith("textmill_")}
        others = set().union(*(shown(PROCESSES[other]) for other in PROCESSES if other != one))
        assert own & others <= {"textmill_build_info", "textmill_schema_fits", "textmill_failed_rows"}
        assert of_all <= shown(PROCESSES[one])


@pytest.mark.usefixtures("everything_counted")
def test_what_the_leader_knows_is_shown_while_it_leads_and_not_at_0_afterwards() -> None:
    registry = PROCESSES["a dispatcher"]
    told = {"textmill_backlog_rows", "textmill_expired_leases", "textmill_workers", "textmill_broker_messages"}
    assert told <= shown(registry)
    assert registry.get_sample_value("textmill_oldest_ready_shard_age_seconds", {"class": "bulk"}) == 2.0
    of_the_dispatcher.observe_health(None)
    assert not told & shown(registry)
    assert registry.get_sample_value("textmill_dispatcher_leads") is not None
