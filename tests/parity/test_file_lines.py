"""`readlines`: what is at hand is read in a row, and still line by line."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import chill, chill_partly
from .harness.turns import turns
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files

PREPARATIONS = [None, chill, chill_partly]
WORDS = ["\n", "a\n", "grüße\n", "carriage\r", "both\r\n", "漢字\n", "x" * 9000 + "\n"]

prepared = pytest.mark.parametrize("prepare", PREPARATIONS, ids=["warm", "cold", "partly"])


def _words(chance: random.Random) -> str:
    # Mostly short ones: many to a piece.
    weights = [30, 30, 30, 5, 5, 30, 1]
    return "".join(chance.choices(WORDS, weights, k=chance.randrange(4000))) + "end"


def _most(file: Any, hint: int) -> list[Any]:
    """Read as `readlines` does, of a file that must be able to tell where it is then."""
    lines: list[Any] = []
    seen = 0
    while line := file.readline():
        lines.append(line)
        seen += len(line)
        if 0 < hint < seen:
            break
    return lines


@prepared
@pytest.mark.parametrize("newline", [None, "", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_lines_of_text_up_to_a_hint_are_those_of_open(
    loop: Loop, tmp_path: Path, prepare: Callable[[Any], None] | None, newline: Any, encoding: str
) -> None:
    path = tmp_path / "lines"
    for seed in range(3):
        chance = random.Random(seed)
        path.write_bytes(_words(chance).encode(encoding))
        with path.open(newline=newline, encoding=encoding) as theirs:
            async with cloverleaf.open(path, newline=newline, encoding=encoding) as ours:
                if prepare is not None:
                    prepare(ours)
                while expected := _most(theirs, hint := chance.choice([1, 7, 300, 5000, 60_000])):
                    assert await ours.readlines(hint) == expected
                    assert await ours.tell() == theirs.tell()
                assert await ours.readlines(hint) == []
                theirs.seek(0)
                await ours.seek(0)
                assert await ours.readlines() == _most(theirs, -1)
                assert await ours.tell() == theirs.tell()


@prepared
@pytest.mark.parametrize("buffering", [-1, 0, 16, 4096])
async def test_lines_of_bytes_up_to_a_hint_are_those_of_open(
    loop: Loop, tmp_path: Path, prepare: Callable[[Any], None] | None, buffering: int
) -> None:
    path = tmp_path / "lines"
    for seed in range(3):
        chance = random.Random(seed)
        content = _words(chance).encode()
        path.write_bytes(content)
        theirs = io.BufferedReader(io.BytesIO(content))
        async with cloverleaf.open(path, "rb", buffering) as ours:
            if prepare is not None:
                prepare(ours)
            while expected := theirs.readlines(hint := chance.choice([1, 7, 300, 5000, 60_000])):
                assert await ours.readlines(hint) == expected
                assert await ours.tell() == theirs.tell()
            assert await ours.readlines(hint) == []
            await ours.seek(0)
            theirs.seek(0)
            assert await ours.readlines() == theirs.readlines()
            assert await ours.tell() == len(content)


SIZES = [0, 1, 700, 30_000]


def _text(chance: random.Random, size: int, words: list[str]) -> str:
    return "".join(chance.choices(words, k=size)) + chance.choice(["", "end", "\r", "ü"])


@prepared
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-8-sig", "utf-16", "cp1252"])
async def test_all_lines_of_text_are_those_of_open(
    loop: Loop, tmp_path: Path, prepare: Callable[[Any], None] | None, newline: Any, encoding: str
) -> None:
    path = tmp_path / "lines"
    words = ["\n", "a\n", "grüße\n", "x" * 70 + "\n"]
    for seed in range(6):
        chance = random.Random(seed)
        # With carriage returns among them or without.
        more = words + (["carriage\r", "both\r\n"] if seed % 2 else [])
        size = chance.choice(SIZES) if seed else 30_000
        path.write_bytes(_text(chance, size, more).encode(encoding))
        with path.open(newline=newline, encoding=encoding) as theirs:
            async with cloverleaf.open(path, newline=newline, encoding=encoding) as ours:
                if prepare is not None:
                    prepare(ours)
                for skipped in (0, 1, 0):
                    for _ in range(skipped):
                        assert await ours.readline() == theirs.readline()
                    assert await ours.readlines() == theirs.readlines()
                    assert await ours.tell() == theirs.tell()
                    assert ours.newlines == theirs.newlines
                    with path.open("ab") as grown:
                        grown.write("more\n".encode(encoding.removesuffix("-sig")))
                    assert await ours.readlines() == theirs.readlines()
                    assert await ours.tell() == theirs.tell()
                    place = chance.choice([0, theirs.tell()])
                    assert await ours.seek(place) == theirs.seek(place)
                    assert ours.newlines == theirs.newlines


@prepared
async def test_the_stack_goes_on_where_its_lines_are_not_at_hand(
    loop: Loop, tmp_path: Path, prepare: Callable[[Any], None] | None
) -> None:
    """A line that is longer than a piece is left to it, and so is what is behind that."""
    path = tmp_path / "lines"
    lines = ["line\n"] * 60_000 + ["x" * 600_000 + "\n"] + ["ü\n"] * 60_000
    path.write_text("".join(lines), "utf-8")
    for mode, encoding in (("r", "utf-8"), ("rb", None)):
        async with cloverleaf.open(path, mode, encoding=encoding) as file:
            if prepare is not None:
                prepare(file)
            found = await file.readlines()
            expected: list[Any] = lines if encoding else [line.encode() for line in lines]
            assert found == expected
            assert await file.tell() == path.stat().st_size
            assert await file.readlines() == []


@prepared
@pytest.mark.parametrize("hint", [-1, 10**6])
@pytest.mark.parametrize("before", [0, 50, 900, 5000, 60_000])
async def test_a_line_that_cannot_be_decoded_leaves_the_file_where_open_has_it(
    loop: Loop, tmp_path: Path, prepare: Callable[[Any], None] | None, hint: int, before: int
) -> None:
    path = tmp_path / "broken"
    path.write_bytes("grüße\n".encode() * before + b"\xff\n" + b"after\n" * 3000)
    with path.open(encoding="utf-8") as theirs:
        async with cloverleaf.open(path, encoding="utf-8") as ours:
            if prepare is not None:
                prepare(ours)
            for _ in range(3):
                with pytest.raises(UnicodeDecodeError) as expected:
                    _most(theirs, hint)
                with pytest.raises(UnicodeDecodeError) as found:
                    await ours.readlines(hint)
                assert str(found.value) == str(expected.value)
                assert await ours.tell() == theirs.tell()
                theirs.seek(0)
                await ours.seek(0)


@pytest.mark.parametrize("mode", ["r", "rb"])
async def test_lines_end_where_the_file_did_also_if_it_grows(
    loop: Loop, tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"line\n" * 10)
    async with cloverleaf.open(path, mode) as file:
        known = file._raw.native

        class Growing:
            """Grows whenever its end was seen."""

            def __getattr__(self, name: str) -> Any:
                return getattr(known, name)

            def _try_readinto(self, buffer: Any, offset: int) -> Any:
                return self._seen(known._try_readinto(buffer, offset))

            def _seen(self, count: Any) -> Any:
                if count == 0:
                    with path.open("ab") as more:
                        more.write(b"more\n")
                return count

        growing = file._raw.native = Growing()
        now = file._raw._readinto_now
        file._raw._readinto_now = lambda buffer: growing._seen(now(buffer))
        first = await file.readlines()
        assert len(first) == 10
        assert await file.tell() == 50
        rest = await file.readlines()
        assert rest == ["more\n" if mode == "r" else b"more\n"] * len(rest)
        assert await file.tell() == 50 + 5 * len(rest)


@pytest.mark.parametrize("prepare", PREPARATIONS[:2], ids=["warm", "cold"])
async def test_every_line_of_text_is_seen_to_before_it_is_read(
    loop: Loop, tmp_path: Path, prepare: Callable[[Any], None] | None
) -> None:
    path = tmp_path / "lines"
    path.write_text("short\n" * 50_000 + ("x" * 3000 + "\n") * 200)
    async with cloverleaf.open(path) as file:
        if prepare is not None:
            prepare(file)
        beyond = []
        known = file._raw._readinto_now

        def watched(buffer: Any) -> int:
            count = known(buffer)
            beyond.append(file._raw.position + count > file._seen_to)
            return count

        file._raw._readinto_now = watched  # type: ignore[method-assign]
        await file.readline()  # what the stack has read ahead has it read the rest, too
        assert len(await file.readlines()) == 50_199
    assert beyond
    assert not any(beyond)


@pytest.mark.parametrize("hint", [-1, 10**6])
@pytest.mark.parametrize("mode", ["r", "rb"])
async def test_others_run_while_many_lines_are_read(
    loop: Loop, tmp_path: Path, mode: str, hint: int
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\n" * 100_000)
    async with cloverleaf.open(path, mode) as file:
        task = asyncio.ensure_future(file.readlines(hint))
        await turns(10)
        assert not task.done()
        assert len(await task) == 100_000


class Watched:
    """Stands before a file's native half and notes from where on was looked what is at hand."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self.looked: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def _at_hand(self, size: int, position: int) -> int:
        self.looked.append(position)
        return int(self._native._at_hand(size, position))


@pytest.mark.parametrize("method", ["readline", "__anext__", "readlines", "read"])
async def test_text_that_went_back_is_looked_for_where_it_was_not_seen_yet(
    loop: Loop, tmp_path: Path, method: str
) -> None:
    """What lies before a place that was read may not be in memory though that is."""
    path = tmp_path / "lines"
    path.write_text("line\n" * 3_200_000)
    arguments = {"readlines": (1000,), "read": (1000,)}.get(method, ())
    far_apart = 5_000_000  # more than is ever looked at together
    async with cloverleaf.open(path) as file:
        watched: Any = Watched(file._raw.native)
        file._raw.native = watched
        for before, behind in ((0, 3), (1, 2), (0, 2)):
            place = before * far_apart
            await file.seek(behind * far_apart)
            await getattr(file, method)(*arguments)
            watched.looked.clear()
            await file.seek(place)
            await getattr(file, method)(*arguments)
            assert place in watched.looked


@prepared
@pytest.mark.parametrize(("encoding", "skipped"), [("utf-8", 0), ("utf-8", 1), ("utf-16", 0)])
async def test_what_cannot_be_decoded_is_in_the_pieces_of_open(
    loop: Loop,
    tmp_path: Path,
    prepare: Callable[[Any], None] | None,
    encoding: str,
    skipped: int,
) -> None:
    """Also behind lines that were read before, and again behind the error."""
    path = tmp_path / "lines"
    # As utf-16 it has no BOM, without which the decoder never begins.
    broken = b"\xff" if encoding == "utf-8" else b""
    path.write_bytes(b"heading\n" + b"line\n" * 3000 + broken + b"line\n" * 3000)

    def shown(error: UnicodeError) -> Any:
        return error.args if isinstance(error, UnicodeDecodeError) else type(error)

    with path.open(encoding=encoding) as theirs:
        async with cloverleaf.open(path, encoding=encoding) as ours:
            if prepare is not None:
                prepare(ours)
            for _ in range(skipped):
                assert await ours.readline() == theirs.readline()
            for _ in range(3):
                try:
                    expected: Any = theirs.readlines()
                except UnicodeError as error:
                    expected = shown(error)
                try:
                    found: Any = await ours.readlines()
                except UnicodeError as error:
                    found = shown(error)
                assert found == expected


@prepared
async def test_line_ends_that_were_met_stay_met(
    loop: Loop, tmp_path: Path, prepare: Callable[[Any], None] | None
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\r\nthree\r\n")
    with path.open(encoding="utf-8") as theirs:
        async with cloverleaf.open(path, encoding="utf-8") as ours:
            if prepare is not None:
                prepare(ours)
            assert await ours.readline() == theirs.readline()
            assert await ours.readlines() == theirs.readlines()
            assert ours.newlines == theirs.newlines
            await ours.reconfigure(encoding="latin-1")
            theirs.reconfigure(encoding="latin-1")
            assert ours.newlines is theirs.newlines is None


async def test_a_write_forgets_which_line_ends_were_met(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\rtwo\r\nthree\r\n")
    with path.open("r+", encoding="utf-8") as theirs:
        async with cloverleaf.open(path, "r+", encoding="utf-8") as ours:
            assert await ours.readline() == theirs.readline()
            assert await ours.readlines() == theirs.readlines()
            assert ours.newlines == theirs.newlines
            await ours.write("")
            theirs.write("")
            assert ours.newlines is theirs.newlines is None
