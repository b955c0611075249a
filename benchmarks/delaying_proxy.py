"""A TCP proxy that delays everything, as the network between Lambda and the monolith does.

Run it as `python -m benchmarks.delaying_proxy PORT TARGET_PORT ROUND_TRIP_MS`.
"""

from __future__ import annotations

import asyncio
import sys


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Write all that is read, each piece so many seconds later."""
    loop = asyncio.get_running_loop()
    try:
        while piece := await reader.read(64 * 1024):
            loop.call_later(seconds, writer.write, piece)
    except ConnectionError:
        pass  # the other end sees the end of the connection, too
    loop.call_later(seconds, writer.close)


async def main(port: int, target_port: int, round_trip_ms: float) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target_port)
        seconds = round_trip_ms / 1000 / 2
        await asyncio.gather(forward(reader, target_writer, seconds), forward(target_reader, writer, seconds))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
