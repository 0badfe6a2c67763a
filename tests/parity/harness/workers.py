"""Programs whose workers, threads or processes, run on the loop under test."""

from __future__ import annotations

import subprocess

import pytest

from .program import Program

# Whatever loop runs them, the workers are ours; main() waits for ever, and says when it cleans up.
PRELUDE = """
import asyncio, os, signal, sys, threading, time, traceback
import cloverleaf
from cloverleaf import WorkerError

def run(main, workers=None, **options):
    return cloverleaf.run_workers(
        main, workers, kind=sys.argv[1], loop_factory=new_event_loop, **options)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def shown(group):
    assert type(group) in (ExceptionGroup, BaseExceptionGroup), group
    return [f"{type(error).__name__}: {error}" for error in group.exceptions]

async def for_ever(worker):
    say("runs", worker.index)
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.001)
        say("ended", worker.index)
"""

BOTH = pytest.mark.parametrize("made_of", ["threads", "processes"])
PROCESSES = pytest.mark.parametrize("made_of", ["processes"])


def output(program: Program, made_of: str, source: str) -> str:
    ended = program.wait(started(program, made_of, source))
    assert ended.status == 0, f"status {ended.status}\n{ended.out}\n{ended.err}"
    return ended.out.strip()


def started(program: Program, made_of: str, source: str) -> subprocess.Popen[str]:
    return program.start(f"import sys; sys.argv[1:] = [{made_of!r}]\n" + PRELUDE + source)


def told(process: subprocess.Popen[str], count: int) -> list[str]:
    """So many lines, in alphabetical order; a program that ends before has its errors shown."""
    assert process.stdout is not None
    assert process.stderr is not None
    lines = [process.stdout.readline().strip() for _ in range(count)]
    assert all(lines), f"it has ended after {lines}:\n{process.stderr.read()}"
    return sorted(lines)
