"""Rules about prometheus, its rules and alertmanager; what cannot be known is said to be unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from lint_lab import only, places, report, rules
from standfast.services.lint.model import LintReport, Severity
from standfast.services.lint.promql import selectors
from standfast.services.lint.sources import defines

COMPOSE = """
    services:
      prometheus:
        image: prom/prometheus:v3.0.0
        restart: always
        mem_limit: 1g
        volumes: ["./prometheus.yml:/etc/prometheus/prometheus.yml", "./rules:/etc/prometheus/rules"]
      alertmanager: {image: "prom/alertmanager:v0.27.0", restart: always, mem_limit: 1g}
      node: {image: "prom/node-exporter:v1.8.0", restart: always, mem_limit: 1g}
      redis-exporter: {image: "oliver006/redis_exporter:v1.62.0", restart: always, mem_limit: 1g}
      api: {build: ./api, restart: always, mem_limit: 1g, ports: ["8000:8000"]}
"""
PROMETHEUS = """
    global:
      external_labels: {cluster: "${CLUSTER}"}
    alerting:
      alertmanagers:
        - static_configs: [{targets: ["alertmanager:9093"]}]
    rule_files: [rules/*.yml]
    scrape_configs:
      - job_name: prometheus
        static_configs: [{targets: ["localhost:9090"]}]
      - job_name: node
        static_configs: [{targets: ["node:9100"]}]
      - job_name: redis
        static_configs: [{targets: ["redis-exporter:9121"]}]
      - job_name: api
        static_configs:
          - targets: ["api:8000"]
      - job_name: far
        static_configs: [{targets: ["db1.example.org:9187"]}]
"""
RULES = """
    groups:
      - name: all
        rules:
          - record: job:errors:rate5m
            expr: sum by (job) (rate(http_errors_total{job="api"}[5m]))
          - alert: Errors
            expr: |
              job:errors:rate5m > 1
              and on (job) up == 1
            annotations: {summary: "{{ $labels.job }} has ${VALUE}"}
          - alert: Disk
            expr: node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.1
          - alert: Latency
            expr: histogram_quantile(0.9, rate(http_request_seconds_bucket[5m])) > 1
          - alert: Redis
            expr: redis_up == 0 or pg_up == 0
"""
ALERTMANAGER = """
    route:
      receiver: ops
      routes:
        - receiver: pager
          matchers: [severity="critical"]
    receivers:
      - name: ops
        webhook_configs: [{url: "http://hooks.example.org/x", send_resolved: true}]
      - name: pager
"""
API = """
    from prometheus_client import Counter, Histogram
    ERRORS = Counter("http_errors", "Errors")
    SECONDS = Histogram("request_seconds", "Time", namespace="http")
"""
CLEAN = {
    "compose.yaml": COMPOSE, "prometheus.yml": PROMETHEUS, "rules/a.yml": RULES,
    "alertmanager.yml": ALERTMANAGER, "api/main.py": API,
    "api/Dockerfile": "FROM python:3.12-slim\nCOPY main.py .\n",
}  # fmt: skip


def changed(tmp_path: Path, file: str, old: str, new: str) -> LintReport:
    assert old in CLEAN[file]
    return report(tmp_path, {**CLEAN, file: CLEAN[file].replace(old, new)})


def test_a_clean_monitoring_gives_no_finding(tmp_path: Path) -> None:
    found = report(tmp_path, CLEAN)
    assert [f"{f.file}:{f.line} {f.rule} {f.message}" for f in found.findings] == []


@pytest.mark.parametrize(
    ("file", "old", "new", "rule", "line"),
    [
        ("prometheus.yml", "node:9100", "nodes:9100", "scrape-target", 11),
        ("prometheus.yml", "node:9100", "node:9101", "scrape-target", 11),
        ("prometheus.yml", "redis-exporter:9121", "redis-exporter:6379", "scrape-target", 13),
        ("prometheus.yml", "localhost:9090", "localhost:9100", "scrape-target", 9),
        ("prometheus.yml", "api:8000", "api:9999", "scrape-target", 16),
        ("prometheus.yml", "db1.example.org:9187", "host.docker.internal:9187", "scrape-target", 18),
        ("prometheus.yml", "alertmanager:9093", "alerts:9093", "alertmanager-target", 5),
        ("prometheus.yml", "alertmanager:9093", "alertmanager:9000", "alertmanager-target", 5),
        ("prometheus.yml", "rules/*.yml", "alerts/*.yml", "rule-file-missing", 6),
        ("prometheus.yml", "rules/*.yml", "rules/b.yml", "rule-file-missing", 6),
        ("prometheus.yml", "job_name: redis", "job_name: node", "scrape-job-twice", 12),
        ("prometheus.yml", "node:9100", "${NODE}:9100", "placeholder", 11),
        ("alertmanager.yml", "receiver: pager", "receiver: page", "receiver-undefined", 4),
        ("alertmanager.yml", "http://hooks.example.org/x", "${WEBHOOK_URL}", "placeholder", 8),
        ("alertmanager.yml", "http://hooks.example.org/x", "$SLACK_URL", "placeholder", 8),
        ("alertmanager.yml", "http://hooks.example.org/x", "<YOUR_WEBHOOK>", "placeholder", 8),
        ("rules/a.yml", 'job="api"', 'job="apis"', "alert-job-unknown", 5),
        ("rules/a.yml", "on (job) up == 1", "on (job) up{job=~'x|y'} == 1", "alert-job-unknown", 9),
        ("rules/a.yml", "node_filesystem_avail_bytes /", "disk_free_bytes /", "metric-unexported", 12),
        ("rules/a.yml", "redis_up == 0", "kafka_lag == 0", "metric-unexported", 16),
        ("rules/a.yml", "job:errors:rate5m > 1", "job:faults:rate5m > 1", "metric-unexported", 8),
        ("api/main.py", '"request_seconds"', '"answer_seconds"', "metric-unexported", 14),
    ],
)
def test_v_each_fault_is_found_at_its_line(
    tmp_path: Path, file: str, old: str, new: str, rule: str, line: int
) -> None:
    found = changed(tmp_path, file, old, new)
    where = file if rule != "metric-unexported" else "rules/a.yml"
    assert f"{where}:{line}" in places(found, rule)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("prometheus.yml", "db1.example.org:9187", "10.0.0.5:9187"),
        ("prometheus.yml", 'static_configs:\n          - targets: ["api:8000"]', "dns_sd_configs: []"),
        ("rules/a.yml", 'job="api"', 'job=~"a.*"'),
        ("rules/a.yml", 'job="api"', 'job!="web"'),
        ("rules/a.yml", "redis_up == 0", "absent(go_goroutines)"),
        ("rules/a.yml", "redis_up == 0", "process_resident_memory_bytes > 1e9 unless up == 0"),
        ("alertmanager.yml", "http://hooks.example.org/x", "{{ .ExternalURL }}/$1"),
    ],
)  # fmt: skip
def test_what_is_right_in_another_way_gives_no_error(tmp_path: Path, file: str, old: str, new: str) -> None:
    found = changed(tmp_path, file, old, new)
    assert [f"{f.line} {f.rule} {f.message}" for f in found.findings if f.severity is not Severity.INFO] == []


def test_v_a_name_of_the_host_that_is_given_is_known(tmp_path: Path) -> None:
    files = {**CLEAN, "prometheus.yml": PROMETHEUS.replace("db1.example.org", "host.docker.internal")}
    files["compose.yaml"] = COMPOSE.replace(
        "volumes:", 'extra_hosts: ["host.docker.internal:host-gateway"]\n        volumes:'
    )
    assert rules(report(tmp_path, files)) == set()


def test_v_how_sure_it_is_that_nobody_exports_a_metric(tmp_path: Path) -> None:
    old, new = "redis_up == 0", "orders_total == 0"
    proved = only(changed(tmp_path / "a", "rules/a.yml", old, new), "metric-unexported")
    assert (proved.severity, proved.evidence["certainty"]) == (Severity.ERROR, "proved")
    files = {**CLEAN, "rules/a.yml": RULES.replace(old, new)}
    absent = {name: text for name, text in files.items() if name != "api/main.py"}
    found = [f for f in report(tmp_path / "b", absent).findings if f.rule == "metric-unexported"]
    assert {(f.severity, f.evidence["certainty"]) for f in found} == {(Severity.WARNING, "unknown")}
    opaque = {**files, "compose.yaml": COMPOSE.replace("build: ./api", "image: example.org/api:1")}
    unknown = only(report(tmp_path / "c", opaque), "metric-unexported")
    assert unknown.severity is Severity.INFO
    assert unknown.message.count("UNKNOWN who exports") == 1
    assert "orders_total" in unknown.evidence["metrics"]  # type: ignore[operator]


def test_v_a_metric_that_only_an_unscraped_program_defines(tmp_path: Path) -> None:
    files = {**CLEAN, "rules/a.yml": RULES.replace("redis_up", "jobs_done_total")}
    files["worker/main.py"] = 'DONE = Counter("jobs_done", "Jobs")\n'
    finding = only(report(tmp_path, files), "metric-unexported")
    assert "no job scrapes that program" in finding.message


def test_a_prometheus_without_a_stack_beside_it_is_not_judged_on_its_targets(tmp_path: Path) -> None:
    found = report(tmp_path, {"prometheus.yml": PROMETHEUS, "rules/a.yml": RULES})
    assert {f.severity for f in found.findings} <= {Severity.INFO}


def test_v_a_rule_file_that_is_there_and_not_mounted(tmp_path: Path) -> None:
    mounts = '"./prometheus.yml:/etc/prometheus/prometheus.yml", "./rules:/etc/prometheus/rules"'
    only_one = '"./prometheus.yml:/etc/prometheus/prometheus.yml"'
    finding = only(changed(tmp_path, "compose.yaml", mounts, only_one), "rule-file-missing")
    assert "mounts nothing at /etc/prometheus/rules" in finding.message


def test_v_a_placeholder_that_is_filled_in_at_the_start_is_none(tmp_path: Path) -> None:
    manager = """alertmanager:
        image: prom/alertmanager:v0.27.0
        restart: always
        mem_limit: 1g
        volumes: ["./alertmanager.yml:/tmp/alertmanager.yml"]
        entrypoint: ["sh", "-c", "sed s/X/Y/ /tmp/alertmanager.yml > /etc/a.yml && exec alertmanager"]"""
    line = '  alertmanager: {image: "prom/alertmanager:v0.27.0", restart: always, mem_limit: 1g}'
    files = {**CLEAN, "compose.yaml": COMPOSE.replace(line.strip(), manager)}
    files["alertmanager.yml"] = ALERTMANAGER.replace("http://hooks.example.org/x", "${URL}")
    assert rules(report(tmp_path, files)) == set()


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up", ["up"]),
        ('rate(a_total{x="y,}"}[5m]) / ignoring (z) group_left (w) b', ["a_total", "b"]),
        ("sum by (job, le) (rate(a_bucket[5m]))", ["a_bucket"]),
        ("sum(a) without (b)", ["a"]),
        ("topk(5, a) offset 1h30m @ end()", ["a"]),
        ("a:b:c unless on (x) d or vector(1) > bool 2e3", ["a:b:c", "d"]),
        ('{__name__="a_total", job="x"}', ["a_total"]),
        ('{"a.b", job="x"}', ["a.b"]),
        ("label_replace(a, 'b', '$1', 'c', '(.*)') # d", ["a"]),
        ("max_over_time(a[1h:5m]) > inf", ["a"]),
        ("count_values('version', build) == nan", ["build"]),
        ("", []),
        ("((", []),
    ],
)
def test_metrics_of_an_expression(expression: str, names: list[str]) -> None:
    assert [selector.name for selector in selectors(expression)] == names


@pytest.mark.parametrize(
    ("names", "metric", "wanted"),
    [
        ({"http_errors"}, "http_errors_total", True),
        ({"app", "http", "errors"}, "app_http_errors_total", True),
        ({"app", "errors"}, "app_http_errors_total", False),
        ({"errors"}, "http_errors_total", False),
        ({"latency"}, "latency_bucket", True),
    ],
)
def test_a_client_adds_namespace_and_suffix(names: set[str], metric: str, *, wanted: bool) -> None:
    assert defines(names, metric) is wanted
