"""What a file's own layers, which never wait, say of themselves to tools that look for waits.

Blockbuster and its kin replace `read` and `write` of `io`'s classes, and complain of a layer that
has a descriptor, or is a terminal. The file that the program has is what tells of these.
"""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import cloverleaf
from cloverleaf import files

from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files


def _layers(file: Any) -> list[Any]:
    """Return the layers of a file, from the top down."""
    layers = [file._file]
    for name in ("buffer", "raw"):
        if hasattr(layers[-1], name):
            layers.append(getattr(layers[-1], name))
    return layers


@pytest.mark.parametrize("mode", ["r", "w", "r+", "w+", "a", "a+"])
@pytest.mark.parametrize("layered", ["", "b", "unbuffered"])
async def test_no_layer_says_that_it_can_block(
    loop: Loop, tmp_path: Path, mode: str, layered: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    arguments: tuple[Any, ...] = (f"{mode}b", 0) if layered == "unbuffered" else (mode + layered,)
    async with cloverleaf.open(path, *arguments) as file:
        layers = _layers(file)
        assert len(layers) == {"": 3, "b": 2, "unbuffered": 1}[layered]
        for layer in layers:
            with pytest.raises(io.UnsupportedOperation):
                layer.fileno()
            assert not layer.isatty()
        assert os.path.samestat(os.fstat(file.fileno()), path.stat())
        assert not file.isatty()
    for ask in (file.fileno, file.isatty):
        with pytest.raises(ValueError, match="closed file"):
            ask()


@pytest.mark.parametrize("mode", ["r", "rb", "w", "wb"])
async def test_no_layer_of_a_terminal_says_that_it_can_block(loop: Loop, mode: str) -> None:
    ours, theirs = os.openpty()
    try:
        async with cloverleaf.open(os.ttyname(theirs), mode) as file:
            assert not any(layer.isatty() for layer in _layers(file))
            assert file.isatty()
            assert os.isatty(file.fileno())
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("mode", ["r", "rb"])
async def test_a_detached_file_tells_nothing(loop: Loop, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    opened: list[Any] = [path.open(mode), await cloverleaf.open(path, mode)]
    for file in opened:
        file.detach().close()
        for ask in (file.fileno, file.isatty):
            with pytest.raises(ValueError, match="detached"):
                ask()


@pytest.mark.parametrize(("mode", "buffering"), [("r+", -1), ("r+b", -1), ("r+b", 0), ("w", -1)])
async def test_a_file_that_cannot_be_detached_yet_is_as_before(
    loop: Loop, tmp_path: Path, mode: str, buffering: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    file: Any = await cloverleaf.open(path, mode, buffering)
    under_way = file._raw.native._writing(b"", 0, 0)  # as a `pwrite` that was given up
    await file.write(b"more" if "b" in mode else "more")
    with pytest.raises(RuntimeError, match="an operation is under way"):
        file.detach()
    assert await file.tell() == 4
    await file.write(b" again" if "b" in mode else " again")
    del under_way
    with file.detach() as below:
        assert below.tell() == 10
    assert path.read_bytes() == b"more again"


async def test_a_copy_calls_nothing_that_is_taken_for_a_wait(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    target.hardlink_to(source)

    def refuse(*_: Any) -> bool:
        raise AssertionError("blockbuster refuses it")

    monkeypatch.setattr(os.path, "samestat", refuse)
    with pytest.raises(shutil.SameFileError):
        await files.copyfile(source, target)
    target.unlink()
    target.write_bytes(b"old")
    await files.copyfile(source, target)
    assert target.read_bytes() == b"content"
