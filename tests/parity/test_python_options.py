"""Python's own options: what they forbid, the loop does not do either."""

from __future__ import annotations

from .harness.program import Program


def test_bytes_are_compared_with_nothing_else(program: Program) -> None:
    out = program.output(
        """
        import asyncio, os, tempfile

        async def main():
            loop = asyncio.get_running_loop()
            made = []

            class Protocol(asyncio.Protocol):
                def connection_made(self, transport):
                    made.append(transport)

            server = await loop.create_server(Protocol, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            for address in (host, port), (host.encode(), str(port)):
                await loop.create_connection(Protocol, *address)
                while len(made) % 2:
                    await asyncio.sleep(0)
            with tempfile.TemporaryDirectory() as folder:
                for path in os.path.join(folder, "str"), os.path.join(folder, "bytes").encode():
                    listening = await loop.create_unix_server(Protocol, path)
                    await loop.create_unix_connection(Protocol, path)
                    while len(made) % 2:
                        await asyncio.sleep(0)
                    listening.close()
            for transport in made:
                transport.close()
            server.close()
            for service in 80, "80", b"80", "", b"", None:
                found = await loop.getaddrinfo(host, service, type=1)
                print(found[0][4][1], end=" ")
            child = await asyncio.create_subprocess_exec(b"/bin/sh", "-c", "exit 3", cwd=b"/")
            print(await child.wait())

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
        """,
        "-bb",
    )
    assert out == "80 80 80 0 0 0 3"
