"""The benchmarks' own arithmetic and listings."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
from benchmarks import instructions
from benchmarks.suite import compare, report, services, summary
from benchmarks.suite.child import Client
from benchmarks.suite.conversation import LoopFailedError
from benchmarks.suite.processor import Cores
from benchmarks.suite.results import Results, Row, load
from benchmarks.suite.rounds import Rounds
from benchmarks.suite.services import Service, Services
from benchmarks.suite.session import Bench
from benchmarks.suite.workload import Ask
from benchmarks.workloads import registry


def row(cpu_ns: dict[str, list[int]]) -> Row:
    """A row in which every measurement is of 1,000 operations in a millisecond."""
    made = Row("name", "title", "operation", "loop")
    for loop, values in cpu_ns.items():
        made.measurements[loop] = [
            {"operations": 1000, "cpu_ns": value, "wall_ns": 1_000_000} for value in values
        ]
    return made


def test_the_best_peer_is_the_cheapest_loop_that_is_neither_ours_nor_the_floor() -> None:
    made = row({"floor": [1], "cloverleaf": [2], "uvloop": [30, 4, 5], "rloop": [6, 6, 6]})
    assert summary.best_peer(made) == "uvloop"
    assert summary.best_peer(row({"cloverleaf": [2]})) is None


def test_a_ratio_compares_within_rounds_so_that_a_slow_round_does_not_count() -> None:
    made = row({"cloverleaf": [500, 5000, 500], "uvloop": [1000, 10_000, 1000]})
    assert summary.ratio(made, "cloverleaf", "uvloop") == 0.5
    assert summary.ratio(made, "cloverleaf", "rloop") is None


def test_a_figure_has_the_median_and_the_whole_spread() -> None:
    figure = summary.over_rounds(
        row({"uvloop": [4_000_000, 5_000_000, 7_000_000]}), "uvloop", summary.cpu_us
    )
    assert figure == summary.Figure(5.0, 0.6)


def test_a_loop_held_back_by_the_generator_in_most_rounds_is_marked() -> None:
    made = row({"uvloop": [1, 1, 1]})
    for measurement in made.measurements["uvloop"][:2]:
        measurement["generator_is_bottleneck"] = True
    assert summary.bottlenecked(made, "uvloop")
    made.measurements["uvloop"][0]["generator_is_bottleneck"] = False
    assert not summary.bottlenecked(made, "uvloop")


def test_names_are_unique_and_patterns_find_them() -> None:
    names = [workload.name for workload in registry.WORKLOADS]
    assert len(set(names)) == len(names)
    assert [each.name for each in registry.matching(["echo-unix-1k-8"])] == ["echo-unix-1k-8"]
    assert {each.name for each in registry.matching(["timer-*"])} == {
        "timer-cancel",
        "timer-cancel-1m",
        "timer-fire-100k",
    }
    assert registry.matching(["no such thing"]) == []


def test_the_curve_is_measured_only_when_asked_for() -> None:
    assert registry.matching(["curve-*"]) == []
    found = registry.matching(["curve-connections-10000"], registry.CURVE)
    assert [registry.by_name(each.name) for each in found] == found != []


def test_a_failure_shows_in_the_table_and_with_its_reason_and_results_read_back(
    tmp_path: Path,
) -> None:
    made = row({"uvloop": [5_000_000], "cloverleaf": [2_500_000]})
    made.failures["rloop"] = "not supported: NotImplementedError"
    machine = {"processor": "p", "cores": 2, "kernel": "k", "load_average": 0.0}
    python = {
        "version": "3",
        "libc": "l",
        "optimisation": "o",
        "decisive_flags": "-O3",
        "yardstick_ns": 20.0,
    }
    settings = {
        "loops": ["uvloop", "rloop", "cloverleaf"],
        "rounds": 1,
        "window_ms": 1,
        "keep": True,
        "prime": True,
        "pinning": "split",
        "loop_cores": [1],
        "load_cores": [0],
        "warnings": [],
    }
    results = Results("now", machine, python, {"uvloop": "1"}, settings, [made])
    text = report.markdown(results)
    assert "| cannot |" in text
    assert "- rloop, title: not supported: NotImplementedError" in text
    assert "0.50 (uvloop)" in text
    results.save(tmp_path / "raw.json")
    assert load(tmp_path / "raw.json") == results


def test_a_workload_is_dearer_when_the_median_says_so_and_most_rounds_agree() -> None:
    before = [1.0, 1.0, 1.0, 1.0]
    assert compare.change("name", before, [1.2, 1.3, 1.2, 0.9]).verdict(0.1) == "dearer"
    assert compare.change("name", before, [1.2, 1.3, 0.9, 0.9]).verdict(0.1) == ""
    assert compare.change("name", before, [1.05, 1.05, 1.05, 1.05]).verdict(0.1) == ""
    assert compare.change("name", before, [0.5, 0.6, 0.5, 1.1]).verdict(0.1) == "cheaper"


def test_a_round_compares_with_itself_when_commits_are_compared() -> None:
    made = compare.change("name", [1.0, 10.0, 1.0], [1.0, 10.0, 1.0])
    assert made.ratios == [1.0, 1.0, 1.0]
    assert "| name | 1.000 | 1.000 | 1.00 (1.00 to 1.00) |  |" in compare.table([made], 0.1)


def test_every_loop_of_every_workload_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="there is no matplotlib for this Python")
    from benchmarks.suite import plots

    echo = row({"floor": [1], "uvloop": [4], "rloop": [8], "cloverleaf": [2]})
    echo.kind, echo.title = "server", "an echo of something"
    for loop, measurements in echo.measurements.items():
        measurements[0]["latency_ns"] = {"p50": 1000, "p99": 1000 * (1 + len(loop))}
    lone = row({"cloverleaf": [7]})
    lone.title = "what nobody else can do"
    curve = [row({"uvloop": [n], "cloverleaf": [n]}) for n in (1, 64)]
    for point, n in zip(curve, (1, 64), strict=True):
        point.name = f"curve-connections-{n}"
    results = Results("now", {}, {}, {}, {}, [echo, lone, *curve])

    drawn = plots.draw(results, tmp_path)

    assert [path.name for path in drawn] == ["cpu.svg", "latency.svg", "connections.svg"]
    cpu, latency, connections = (path.read_text() for path in drawn)
    for text in ("an echo of something", "what nobody else can do", "floor", "uvloop", "rloop"):
        assert f"<!-- {text} -->" in cpu
    assert "<!-- an echo of something -->" in latency
    assert "<!-- what nobody else can do -->" not in latency
    assert "<!-- cloverleaf -->" in connections


def conversation(address: str, question: bytes) -> bytes:
    """What a server answers first."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(question)
        return connection.recv(100)


@pytest.mark.parametrize(
    ("service", "question", "answer"),
    [
        ("redis", b"PING\r\n", b"+PONG\r\n"),
        # SSLRequest, and the answer that there is none.
        ("postgresql", b"\0\0\0\x08\x04\xd2\x16\x2f", b"N"),
    ],
)
def test_a_service_answers_from_its_first_use_until_it_is_closed(
    service: Service, question: bytes, answer: bytes
) -> None:
    there = {"redis": shutil.which("redis-server"), "postgresql": services.postgresql_programs()}
    if there[service] is None:
        pytest.skip(f"{service} is not installed")
    with Services(frozenset(os.sched_getaffinity(0))) as running:
        address = running.address(service)
        assert conversation(address, question) == answer
        assert running.address(service) == address
    with pytest.raises(ConnectionRefusedError):
        conversation(address, question)


def test_a_server_that_is_missing_is_named_once_and_in_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(services, "POSTGRESQL", str(tmp_path))
    core = frozenset({0})
    with Services(core) as none:
        bench = Bench(tmp_path, tmp_path, tmp_path, Cores(core, core, core), True, 0, none)
        rounds = Rounds(bench, 1, 1, keep=True)
        for name in ("asyncpg-select-1", "redis-pipeline"):
            made = rounds.run(registry.by_name(name), ["uvloop", "cloverleaf"])
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert "is not installed: apt-get install" in said
            results = Results("now", {}, {}, {}, {}, [made])
            assert report.absences(results).count("\n") == 0
            assert report.absences(results).startswith("- uvloop, cloverleaf, ")
            assert report.cpu_table(results, ["uvloop"]).count("| cannot ") == 1


def test_a_client_asks_on_each_connection_and_has_a_latency_for_every_answer() -> None:
    asked = {"a": 0, "b": 0}

    def ask(name: str) -> Ask:
        async def count() -> None:
            asked[name] += 1

        return count

    loop = asyncio.new_event_loop()
    client = Client(loop, [ask("a"), ask("b")])
    assert client.run(0) == 2
    assert asked == {"a": 1, "b": 1}
    client.run(1_000_000)
    loop.close()
    assert min(asked.values()) > 1
    latency = client.latency()
    assert list(latency) == ["p50", "p90", "p99", "p999"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p999"]


def test_instructions_are_what_a_longer_window_has_more() -> None:
    # 5,000 come once for a window, and 300 for each operation.
    assert instructions.per_operation([(10, 8_000), (110, 38_000)]) == 300
    with pytest.raises(LoopFailedError, match="10 operations in the short window, 10"):
        instructions.per_operation([(10, 8_000), (10, 8_000)])


def test_instructions_are_read_from_what_callgrind_writes() -> None:
    assert instructions.total("events: Ir\nsummary: 7\n\ntotals: 42\n") == 42
    with pytest.raises(LoopFailedError, match="counted nothing"):
        instructions.total("events: Ir\n")


def test_instructions_are_compared_with_the_best_peers() -> None:
    found: instructions.Found = {
        "echo": {"uvloop": [4000.0, 4200.0, 4100.0], "rloop": "cannot", "cloverleaf": [2050.0]},
        "other": {"uvloop": "no", "rloop": "no", "cloverleaf": [1.0]},
    }
    echo, other = instructions.table(found, ["uvloop", "rloop", "cloverleaf"]).splitlines()[2:]
    assert echo == "| echo | 4,100 | cannot | 2,050 | 0.50 (uvloop) |"
    assert other == "| other | cannot | cannot | 1 |  |"


@pytest.mark.skipif(
    not (shutil.which("valgrind") and shutil.which("callgrind_control")),
    reason="valgrind is not installed",
)
def test_instructions_of_a_callback_are_counted() -> None:
    core = min(os.sched_getaffinity(0))
    cores = Cores(frozenset({core}), frozenset({core}), frozenset({core}))
    root = Path(__file__).resolve().parent.parent
    with Services(cores.load) as started:
        bench = Bench(Path(sys.executable), Path("none"), root, cores, True, 1, started)
        counted = instructions.count(bench, "asyncio", registry.by_name("call-soon-batch"))
    # A callback of asyncio's takes some thousand, on any build of the interpreter.
    assert 500 < counted < 100_000
