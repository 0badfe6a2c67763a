"""An aiohttp application on Cloverleaf, run by aiohttp's own `web.run_app`.

python examples/http_aiohttp.py --port 8080
Then, elsewhere: curl http://127.0.0.1:8080/loop
"""

import argparse
import asyncio
import platform
import socket

from aiohttp import web


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="Hello, world\n")


async def name_the_loop(_: web.Request) -> web.Response:
    loop = type(asyncio.get_running_loop())
    return web.json_response(
        {"loop": f"{loop.__module__}.{loop.__qualname__}", "python": platform.python_version()}
    )


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type=request.content_type)


def application() -> web.Application:
    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/loop", name_the_loop)
    app.router.add_post("/echo", echo)
    return app


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """The one difference between the two: which loop `web.run_app` is given."""
    if name == "asyncio":
        return asyncio.new_event_loop()
    import cloverleaf

    return cloverleaf.new_event_loop()


def main() -> None:
    parser = argparse.ArgumentParser(description="An aiohttp application on Cloverleaf.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--loop", choices=("cloverleaf", "asyncio"), default="cloverleaf")
    arguments = parser.parse_args()

    with socket.create_server((arguments.host, arguments.port)) as listener:
        print("Running on http://{}:{}".format(*listener.getsockname()[:2]), flush=True)
        web.run_app(
            application(),
            sock=listener,
            loop=new_loop(arguments.loop),
            access_log=None,
            print=None,
        )


if __name__ == "__main__":
    main()
