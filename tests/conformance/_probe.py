"""Evidence for classification.toml: what private things does a test touch?

`run_cpython_suite.py --loop asyncio --probe FILE` runs the suite on a stdlib
loop that notes, for every test, which private names of the loop (and of the
transports, servers and handles that it makes) are read or set from the test's
own source files, which of the loop's attributes the test replaces, what it
patches with unittest.mock, and which private names of asyncio's modules its
source names.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import sys
import types
import unittest
from typing import Any

TESTS = os.path.join("test", "test_asyncio") + os.sep
touched: set[str] = set()


def _from_tests() -> bool:
    name = sys._getframe(2).f_code.co_filename
    return TESTS in name


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


class ProbeLoop(asyncio.unix_events._UnixSelectorEventLoop):
    """The stdlib's loop, telling what the tests touch of it."""

    def __getattribute__(self, name: str) -> Any:
        if _private(name) and _from_tests():
            touched.add(f"loop.{name}")
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if _from_tests():
            touched.add(f"set loop.{name}")
        super().__setattr__(name, value)


def _watch(cls: Any, label: str) -> None:
    get = cls.__getattribute__

    def __getattribute__(self: Any, name: str) -> Any:
        if _private(name) and type(self).__module__.startswith("asyncio") and _from_tests():
            touched.add(f"{label}.{name}")
        return get(self, name)

    cls.__getattribute__ = __getattribute__


def _watch_construction(cls: Any) -> None:
    init = cls.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if TESTS in sys._getframe(1).f_code.co_filename:
            touched.add(f"new {cls.__name__}")
        init(self, *args, **kwargs)

    cls.__init__ = __init__


def install() -> None:
    """Watch asyncio's classes and what mock.patch replaces."""
    from asyncio import base_events, base_subprocess, events, sslproto, transports, unix_events
    from unittest import mock

    _watch_construction(base_subprocess.BaseSubprocessTransport)
    _watch_construction(sslproto.SSLProtocol)
    if hasattr(unix_events, "AbstractChildWatcher"):
        _watch(unix_events.AbstractChildWatcher, "watcher")
    _watch(transports.BaseTransport, "transport")
    _watch(base_events.Server, "server")
    _watch(events.Handle, "handle")
    patch: Any = mock._patch
    enter = patch.__enter__

    def __enter__(self: Any) -> Any:
        new = enter(self)
        target = self.target
        if isinstance(target, (types.ModuleType, type)):
            name = target.__name__
        else:
            name = type(target).__module__ + "." + type(target).__name__
        touched.add(f"patch {name}:{self.attribute}")
        return new

    patch.__enter__ = __enter__


def take() -> list[str]:
    """Return what was touched since the last call."""
    got = sorted(touched)
    touched.clear()
    return got


class _Names(ast.NodeVisitor):
    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.private: set[str] = set()
        self.methods: set[str] = set()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name):
            if node.value.id == "self":
                self.methods.add(node.attr)
            owner = self.namespace.get(node.value.id)
            if _private(node.attr) and any(
                str(getattr(owner, where, "")).startswith("asyncio")
                for where in ("__module__", "__name__")
            ):
                self.private.add(f"{node.value.id}.{node.attr}")

    def visit_Name(self, node: ast.Name) -> None:
        owner = self.namespace.get(node.id)
        if _private(node.id) and getattr(owner, "__module__", "").startswith("asyncio"):
            self.private.add(node.id)


def static(test: unittest.TestCase) -> list[str]:
    """Return the private names of asyncio's modules in the test's source and helpers."""
    cls = type(test)
    todo = ["setUp", "tearDown", test._testMethodName]
    seen: set[str] = set()
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        found_func = getattr(cls, name, None)
        if found_func is None:
            continue
        func = inspect.unwrap(found_func)
        if not inspect.isfunction(func):
            continue
        if TESTS not in func.__code__.co_filename:
            continue
        try:
            tree = ast.parse(inspect.cleandoc("\n" + _dedent(func)))
        except (OSError, SyntaxError):
            continue
        names = _Names(func.__globals__)
        names.visit(tree)
        found |= names.private
        todo.extend(names.methods)
    return sorted(found)


def _dedent(func: Any) -> str:
    import textwrap

    return textwrap.dedent(inspect.getsource(func))
