"""The dashboard asks for what is exported, in words that Prometheus understands."""

from __future__ import annotations

import json
import re

import yaml
from deploy_files import DEPLOY, call, needs_promtool

from pipeline.telemetry import METRICS

DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/livephase.json").read_text(encoding="utf-8"))


def panels() -> list[dict]:
    return DASHBOARD["panels"]


def expressions() -> list[tuple[str, str]]:
    """(panel, PromQL) with Grafana's variables as it would fill them in."""
    found = []
    for panel in panels():
        for target in panel.get("targets", ()):
            expr = target["expr"].replace("$__rate_interval", "1m")
            expr = expr.replace("$job", "livephase").replace("$instance", ".*")
            found.append((panel["title"], expr))
    return found


@needs_promtool
def test_prometheus_understands_every_query(tmp_path):
    rules = [
        {"record": f"panel:query:{i}", "expr": expr} for i, (_, expr) in enumerate(expressions())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    said = call("promtool", "check", "rules", file)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(rules)} rules found" in said.stdout


@needs_promtool
def test_the_figures_at_the_top_are_right(tmp_path):
    """A run of 10 frames a second in slots of two, of which half a frame a second drops, phase after 150 ms."""
    every_5s = {
        "livephase_frames_written_total": "0+50x40",
        "livephase_frames_planned": "4000x40",
        'livephase_frames_missing_total{reason="dropped"}': "0+2.5x40",
        "livephase_slots_published_total": "0+25x40",
        'livephase_latency_seconds_bucket{le="0.1"}': "0x40",
        'livephase_latency_seconds_bucket{le="0.2"}': "0+25x40",
        'livephase_latency_seconds_bucket{le="+Inf"}': "0+25x40",
        'livephase_run_state{state="running"}': "1x40",
        'livephase_run_state{state="paused"}': "0x40",
    }
    series = []
    for name, values in every_5s.items():
        labels = ['job="livephase"', 'instance="here"', *re.findall(r"\{(.+)\}", name)]
        series.append(
            {"series": name.partition("{")[0] + "{" + ",".join(labels) + "}", "values": values}
        )
    wanted = {
        "Run": [{"labels": '{state="running",job="livephase",instance="here"}', "value": 1}],
        "Frames missing": [{"labels": "{}", "value": 60}],
        "Stored": [{"labels": "{}", "value": 0.3}],
        # Five slots a second and 199 ms: just about in time.
        "Latency p99 / interval": [{"labels": "{}", "value": 0.995}],
        "Alarms active": [{"labels": "{}", "value": 0}],
    }
    queries = dict(expressions())
    test = {
        "interval": "5s",
        "input_series": series,
        "promql_expr_test": [
            {"expr": f"round({queries[title]}, 0.001)", "eval_time": "2m", "exp_samples": samples}
            for title, samples in wanted.items()
        ],
    }
    file = tmp_path / "figures.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "5s", "tests": [test]}))
    said = call("promtool", "test", "rules", file)
    assert said.returncode == 0, said.stdout + said.stderr


def exported() -> set[str]:
    """Every series name that the exporter gives."""
    names = set()
    for metric in METRICS:
        suffixes = {
            "counter": ["_total"],
            "gauge": [""],
            "histogram": ["_bucket", "_sum", "_count"],
        }
        names |= {metric.exported + suffix for suffix in suffixes[metric.kind]}
    return names


def test_the_dashboard_asks_for_what_is_exported():
    known = exported()
    asked = {
        name: title for title, expr in expressions() for name in re.findall(r"livephase_\w+", expr)
    }
    unknown = {name: title for name, title in asked.items() if name not in known}
    assert not unknown
    for variable in DASHBOARD["templating"]["list"][1:]:
        (metric,) = re.findall(r"livephase_\w+", variable["query"]["query"])
        assert metric in known
    # What somebody who looks from afar wants to know at a glance.
    for metric in (
        "livephase_frames_missing_total",
        "livephase_latency_seconds_bucket",
        "livephase_reconstruction_queue",
        "livephase_ring_fill_ratio",
        "livephase_residual",
        "livephase_stage_up",
        "livephase_stage_restarts_total",
        "livephase_light_seconds",
        "livephase_disk_free_bytes",
        "livephase_alarm_active",
    ):
        assert metric in asked


def test_panels_have_their_own_place_and_number():
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken.get((x, y))}"
                taken[x, y] = panel["title"]
        if panel["type"] != "row":
            assert panel["description"].endswith("."), f"{panel['title']} does not say what it is"
            refs = [target["refId"] for target in panel["targets"]]
            assert len(refs) == len(set(refs))


def test_grafana_is_told_where_everything_is():
    provisioning = DEPLOY / "grafana/provisioning"
    sources = yaml.safe_load((provisioning / "datasources/livephase.yaml").read_text())
    (source,) = sources["datasources"]
    chosen = DASHBOARD["templating"]["list"][0]
    assert (chosen["type"], chosen["current"]["value"]) == ("datasource", source["uid"])
    assert source["type"] == "prometheus"
    providers = yaml.safe_load((provisioning / "dashboards/livephase.yaml").read_text())
    (provider,) = providers["providers"]
    assert providers["apiVersion"] == sources["apiVersion"] == 1
    assert provider["options"]["path"].startswith("/")
