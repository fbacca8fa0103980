"""A web server of a folder, with ranges, etags and an index, on a port of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager


@contextmanager
def serving(folder, refuse=None):
    """Serve a folder and yield its URL and the list of requests; `refuse` maps paths to statuses.

    A status of 0 is a server that takes a request and never answers.
    """
    from aiohttp import web

    asked, started, url = [], threading.Event(), []
    refuse = {} if refuse is None else refuse

    @web.middleware
    async def judge(request, handler):
        asked.append((request.method, request.path, request.headers.get("Range")))
        if (status := refuse.get(request.path)) is not None:
            if status == 0:
                await asyncio.sleep(60)
            return web.Response(status=status)
        return await handler(request)

    loop = asyncio.new_event_loop()

    async def start():
        app = web.Application(middlewares=[judge])
        app.router.add_static("/", folder, show_index=True)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url.append(f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}")
        started.set()
        return runner

    def run():
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield url[0], asked
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
