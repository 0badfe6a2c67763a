"""Run by a test: `web.run_app` on the loop named by the only argument, until a signal."""

import asyncio
import socket
import sys

from aiohttp import web


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "asyncio":
        return asyncio.new_event_loop()
    import cloverleaf

    loop: asyncio.AbstractEventLoop = cloverleaf.new_event_loop()
    return loop


async def name_the_loop(_: web.Request) -> web.Response:
    return web.Response(text=type(asyncio.get_running_loop()).__module__.partition(".")[0])


async def clean_up(_: web.Application) -> None:
    print("cleaning up")


def main() -> None:
    loop = new_loop(sys.argv[1])
    app = web.Application()
    app.router.add_get("/", name_the_loop)
    app.on_cleanup.append(clean_up)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        web.run_app(app, sock=listener, loop=loop, print=lambda _: print("listening on", port))
    if loop.is_closed():
        print("loop closed")


if __name__ == "__main__":
    main()
