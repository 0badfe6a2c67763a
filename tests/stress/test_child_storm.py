"""Children by the thousand: what they leave behind, and what they do to whoever runs beside."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from parity.harness.leaks import children
from parity.harness.types import Loop, NewLoop

CHILDREN = 1000
AT_ONCE = 64
LOOPS = 4


async def talk(number: int) -> None:
    """Start a program, and talk to it."""
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert await process.communicate(b"%d" % number) == (b"%d" % number, b"")
    assert process.returncode == 0


async def fail(_number: int) -> None:
    """Start a program that is not there."""
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("no-such-program", stdin=PIPE, stdout=PIPE)


async def many(count: int) -> None:
    """Start so many, a number of them at once, of which some fail."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with limit:
            await (fail if number % 4 == 3 else talk)(number)

    await asyncio.gather(*map(one, range(count)))


def mappings() -> int:
    """Return how many mappings the process has, of which a child's stack is one."""
    return Path("/proc/self/maps").read_text().count("\n")


def resident_kib() -> int:
    """Return the resident memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1])


@pytest.mark.deadline(240)
def test_a_thousand_children_leave_nothing_behind(loop: Loop) -> None:
    loop.run_until_complete(many(CHILDREN // 4))
    # How many children and threads there are at once is chance; a leak grows each time.
    for _ in range(3):
        maps, resident = mappings(), resident_kib()
        loop.run_until_complete(many(CHILDREN))
        assert not children()
        more_maps, more_kib = mappings() - maps, resident_kib() - resident
        if more_maps < 20 and more_kib < 8192:
            break
    assert more_maps < 20
    assert more_kib < 8192


@pytest.mark.deadline(240)
def test_errors_of_other_threads_stay_their_own(loop: Loop) -> None:
    """A child that shares memory with threads shares the thread's `errno` that started it."""
    over = threading.Event()
    wrong: list[OSError] = []
    rounds = 0

    def meet_errors() -> None:
        nonlocal rounds
        while not over.is_set():
            rounds += 1
            provoke()

    def provoke() -> None:
        for call, wanted in ((lambda: os.chdir("/no/such"), 2), (lambda: os.read(9999, 1), 9)):
            try:
                call()
            except OSError as error:
                if error.errno != wanted:
                    wrong.append(error)

    async def meet_errors_on_the_loop() -> None:
        while not over.is_set():
            provoke()
            await asyncio.sleep(0)

    async def main() -> None:
        meeting = asyncio.create_task(meet_errors_on_the_loop())
        await many(CHILDREN)
        over.set()
        await meeting

    thread = threading.Thread(target=meet_errors)
    thread.start()
    try:
        loop.run_until_complete(main())
    finally:
        over.set()
        thread.join()
    assert rounds > 10
    assert not wrong


@pytest.mark.deadline(240)
def test_starts_can_be_cancelled_at_any_moment(loop: Loop) -> None:
    random.seed(17)

    async def begin(patience: int) -> None:
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
        )
        for _ in range(patience):
            await asyncio.sleep(0)
        starting.cancel()
        try:
            process = await starting
        except asyncio.CancelledError:
            return
        process.kill()
        await process.communicate()

    async def main() -> None:
        for _ in range(CHILDREN // 40):
            await asyncio.gather(*(begin(random.randrange(60)) for _ in range(20)))

    loop.run_until_complete(main())
    assert not children()


@pytest.mark.deadline(240)
def test_many_threads_start_children_at_once(new_loop: NewLoop) -> None:
    loops = [new_loop() for _ in range(LOOPS)]
    failures: list[BaseException] = []

    def work(loop: Loop) -> None:
        try:
            loop.run_until_complete(many(CHILDREN // 10))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.deadline(240)
def test_forks_beside_starts_do_no_harm(loop: Loop) -> None:
    """`fork` copies what a child has in use, and nothing of that is the forked process's."""

    def fork() -> None:
        forked = os.fork()
        if forked == 0:
            os._exit(0)
        assert os.waitpid(forked, 0) == (forked, 0)

    async def main() -> None:
        for number in range(CHILDREN // 20):
            starting = [asyncio.create_task(talk(number)) for _ in range(4)]
            await asyncio.sleep(0)
            fork()
            await asyncio.gather(*starting)

    loop.run_until_complete(main())
