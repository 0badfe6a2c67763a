"""``cloverleaf.metrics.prometheus_text`` gives what Prometheus's own parser reads back."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no such numbers

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")


def busy(loop: Loop) -> Any:
    """Return the numbers of a loop that has done something."""
    loop.call_later(0.001, loop.stop)
    loop.call_at(loop.time() - 100.0, int)
    loop.run_forever()
    return loop.metrics()  # type: ignore[attr-defined]


def read(text: str) -> dict[tuple[str, str], float]:
    """Read samples by name and labels, as strictly as the format's description is."""
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    samples: dict[tuple[str, str], float] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert not any(name.startswith(family) for name, _ in samples), "told of twice"
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name == family
            assert kind in ("counter", "gauge", "histogram")
            assert name.endswith("_total") is (kind == "counter")
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, number = match.groups()
            assert name.startswith(family)
            assert (name, labels or "") not in samples
            samples[name, labels or ""] = float(number)
    return samples


def test_it_has_every_number_once_and_exactly(loop: Loop) -> None:
    import dataclasses

    from cloverleaf.metrics import prometheus_text

    metrics = busy(loop)
    samples = read(prometheus_text(metrics))
    assert samples["cloverleaf_turns_total", ""] == metrics.turns
    assert samples["cloverleaf_busy_seconds_total", ""] == metrics.busy_seconds
    assert samples["cloverleaf_timer_lag_seconds_sum", ""] == metrics.timer_lag.sum >= 100
    plain = [name for name, _ in samples if "timer_lag" not in name]
    # The histogram stands for itself and for the timers that fired.
    assert len(plain) == len(dataclasses.fields(metrics)) - 2
    buckets = [(labels, n) for (name, labels), n in samples.items() if name.endswith("_bucket")]
    assert len(buckets) == len(metrics.timer_lag.counts)
    counts = [count for _, count in buckets]
    assert counts == sorted(counts)
    limits = [float(labels.removeprefix('le="').removesuffix('"')) for labels, _ in buckets]
    assert limits == [*metrics.timer_lag.limits, math.inf]
    count = samples["cloverleaf_timer_lag_seconds_count", ""]
    assert counts[-1] == count == metrics.timers_fired == 2
    # A hundred seconds are more than every limit.
    assert counts[-2] <= 1


def test_prometheus_reads_it(loop: Loop) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    from cloverleaf.metrics import prometheus_text

    metrics = busy(loop)
    name = 'of "all"\\\n\N{SNOWMAN}'
    text = prometheus_text({name: metrics, "other": metrics}, prefix="app:loop_")
    families = {one.name: one for one in parser.text_string_to_metric_families(text)}
    jobs = families["app:loop_jobs"]
    assert jobs.type == "counter"
    assert [(one.labels, one.value) for one in jobs.samples] == [
        ({"loop": name}, metrics.jobs),
        ({"loop": "other"}, metrics.jobs),
    ]
    lag = families["app:loop_timer_lag_seconds"]
    assert lag.type == "histogram"
    assert sum(one.name.endswith("_count") for one in lag.samples) == 2
    assert {one.type for one in families.values()} == {"counter", "gauge", "histogram"}


def test_labels_are_escaped(loop: Loop) -> None:
    from cloverleaf.metrics import prometheus_text

    text = prometheus_text({'a"b\\c\nd': busy(loop)})
    assert 'cloverleaf_jobs_total{loop="a\\"b\\\\c\\nd"} ' in text
    assert '{loop="a\\"b\\\\c\\nd",le="+Inf"} 2' in text
    read(text)


@pytest.mark.parametrize("prefix", ["1", "a-b", "a b", "é", 'a{x="', "a\n"])
def test_what_begins_no_name_is_refused(loop: Loop, prefix: str) -> None:
    from cloverleaf.metrics import prometheus_text

    with pytest.raises(ValueError, match="no name of a metric begins with"):
        prometheus_text(busy(loop), prefix=prefix)


def test_no_loops_are_no_samples() -> None:
    from cloverleaf.metrics import CONTENT_TYPE, prometheus_text

    assert read(prometheus_text({})) == {}
    assert "version=0.0.4" in CONTENT_TYPE
