"""Sends create calls at equal intervals, however long each of them takes.

Run it as `python -m benchmarks.paced_calls URL FILE CALLS_A_SECOND`. Each line of the file is a JSON array of the
headers and the body of one call.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import aiohttp


async def main(url: str, calls: list[str], calls_a_second: float) -> None:
    loop = asyncio.get_running_loop()
    # Without a limit of connections, a slow call does not delay the next ones.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http, asyncio.TaskGroup() as tasks:

        async def send(headers: dict[str, str], body: str) -> None:
            async with http.post(url, headers=headers, data=body.encode()) as answer:
                answer.raise_for_status()
                await answer.read()

        began_at = loop.time()
        for number, call in enumerate(calls):
            await asyncio.sleep(began_at + number / calls_a_second - loop.time())
            tasks.create_task(send(*json.loads(call)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_text().splitlines(), float(sys.argv[3])))
