"""Real programs on the loop: streams, aiohttp, uvicorn, websockets, redis, anyio and httpx.

Every test here runs once on the standard library's loop and once on Cloverleaf, so that a failure
of the second alone is ours. Everything talks over loopback or Unix sockets, and ends what it
started.
"""
