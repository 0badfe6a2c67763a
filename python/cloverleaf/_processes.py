"""`subprocess_exec` and `subprocess_shell`, on which `asyncio.create_subprocess_*` build."""

import asyncio
import functools
import subprocess
from asyncio.log import logger
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._debug import Debugging
from ._later import imported
from ._pipes import Pipes

if TYPE_CHECKING:
    from ._subprocess import SubprocessTransport

_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_PIPE = subprocess.PIPE


class Processes(Pipes, Debugging):
    """Child processes whose pipes and whose end are the loop's to watch."""

    async def subprocess_exec(
        self,
        protocol_factory: Callable[[], _P],
        program: Any,
        *args: Any,
        stdin: Any = _PIPE,
        stdout: Any = _PIPE,
        stderr: Any = _PIPE,
        universal_newlines: Any = False,
        shell: Any = False,
        bufsize: Any = 0,
        encoding: Any = None,
        errors: Any = None,
        text: Any = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, _P]:
        """Start `program` with these arguments; return (transport, protocol).

        The other keywords are `subprocess.Popen`'s.
        """
        _refuse_text(universal_newlines, shell, False, bufsize, text, encoding, errors)
        return await self._start_child(
            protocol_factory,
            (program, *args),
            {
                "stdin": stdin,
                "stdout": stdout,
                "stderr": stderr,
                "universal_newlines": False,
                "shell": False,
                "bufsize": bufsize,
                **kwargs,
            },
        )

    async def subprocess_shell(
        self,
        protocol_factory: Callable[[], _P],
        cmd: Any,
        *,
        stdin: Any = _PIPE,
        stdout: Any = _PIPE,
        stderr: Any = _PIPE,
        universal_newlines: Any = False,
        shell: Any = True,
        bufsize: Any = 0,
        encoding: Any = None,
        errors: Any = None,
        text: Any = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, _P]:
        """Let the shell run `cmd`; return (transport, protocol).

        The other keywords are `subprocess.Popen`'s.
        """
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        _refuse_text(universal_newlines, shell, True, bufsize, text, encoding, errors)
        return await self._start_child(
            protocol_factory,
            cmd,
            {
                "stdin": stdin,
                "stdout": stdout,
                "stderr": stderr,
                "universal_newlines": False,
                "shell": True,
                "bufsize": bufsize,
                **kwargs,
            },
        )

    async def _start_child(
        self,
        protocol_factory: Callable[[], _P],
        command: Any,
        keywords: dict[str, Any],
    ) -> tuple[asyncio.SubprocessTransport, _P]:
        # Under these names asyncio hands them over, too.
        files = keywords["stdin"], keywords["stdout"], keywords["stderr"]
        protocol = protocol_factory()
        if self.get_debug():
            # The arguments stay out of the log: there may be passwords among them.
            doing = _describe(command, keywords["shell"])
            logger.debug("%s%s", doing, _describe_files(*files))
        start_process, make_transport = _means()
        proc = await start_process(self, command, keywords)
        transport = make_transport(self, protocol, proc, command, files)
        await transport._connect()
        if self.get_debug():
            logger.info("%s: %r", _describe(command, keywords["shell"]), transport)
        return transport, protocol


@functools.cache
def _means() -> tuple[Callable[..., Awaitable[Any]], type["SubprocessTransport"]]:
    """What starts a child, and the class of its transport; most programs start none."""
    return imported("_starting").start_process, imported("_subprocess").SubprocessTransport


def _refuse_text(
    universal_newlines: Any,
    shell: Any,
    wanted_shell: bool,
    bufsize: Any,
    text: Any,
    encoding: Any,
    errors: Any,
) -> None:
    """Pipes carry bytes, and as they come."""
    if universal_newlines:
        raise ValueError("universal_newlines must be False")
    if bool(shell) is not wanted_shell:
        raise ValueError(f"shell must be {wanted_shell}")
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")


def _describe(command: Any, shell: bool) -> str:
    return f"run shell command {command!r}" if shell else f"execute program {command[0]!r}"


def _describe_files(stdin: Any, stdout: Any, stderr: Any) -> str:
    words = []
    if stdin is not None:
        words.append(f" stdin={_describe_file(stdin)}")
    if stdout is not None and stderr == subprocess.STDOUT:
        words.append(f" stdout=stderr={_describe_file(stdout)}")
    else:
        if stdout is not None:
            words.append(f" stdout={_describe_file(stdout)}")
        if stderr is not None:
            words.append(f" stderr={_describe_file(stderr)}")
    return "".join(words)


def _describe_file(file: Any) -> str:
    if file == subprocess.PIPE:
        return "<pipe>"
    if file == subprocess.STDOUT:
        return "<stdout>"
    return repr(file)
