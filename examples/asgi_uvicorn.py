"""An ASGI application under uvicorn on Cloverleaf, which is one argument: `loop=`.

python examples/asgi_uvicorn.py --port 8000
The same, by uvicorn's own command:
cd examples && python -m uvicorn asgi_uvicorn:app --loop cloverleaf:new_event_loop
Then, elsewhere: curl http://127.0.0.1:8000/loop
"""

import argparse
import asyncio
import json
import platform
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LOOPS = {"cloverleaf": "cloverleaf:new_event_loop", "asyncio": "asyncio"}


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answers `/`, `/loop` and `/echo`; any ASGI framework would stand here as well."""
    assert scope["type"] == "http"
    status, kind, body = 200, b"text/plain; charset=utf-8", b"Hello, world\n"
    if scope["path"] == "/loop":
        kind, body = b"application/json", name_the_loop()
    elif scope["path"] == "/echo":
        body = await read_body(receive)
    elif scope["path"] != "/":
        status, body = 404, b"Not found\n"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def name_the_loop() -> bytes:
    loop = type(asyncio.get_running_loop())
    name = f"{loop.__module__}.{loop.__qualname__}"
    return json.dumps({"loop": name, "python": platform.python_version()}).encode()


async def read_body(receive: Receive) -> bytes:
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description="An ASGI application on Cloverleaf.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--loop", choices=LOOPS, default="cloverleaf")
    arguments = parser.parse_args()

    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        loop=LOOPS[arguments.loop],
        http="httptools",
        lifespan="off",
        access_log=False,
        timeout_keep_alive=60,
    )


if __name__ == "__main__":
    main()
