"""A fake monolith that answers at once: it grants every claim, "creates" every row and accepts every report.

Run it as `python -m benchmarks.instant_monolith PORT`. It does as little work as possible, so that a benchmark measures
the worker.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import asdict

from bulk_import_wire.contract import (
    CONTRACT_HEADER,
    CONTRACT_VERSION,
    VERDICT_HEADER,
    Claim,
    HeartbeatAnswer,
    RowVerdict,
)

CONCURRENCY = 4
CLAIM = Claim(
    epoch=1,
    lease_seconds=60,
    heartbeat_seconds=10,
    create_path="/products/",
    token="token",  # noqa: S106 - nobody asks for it
    language="en",
    created=[],
    failures_key="",
    concurrency=CONCURRENCY,
    cancelled=False,
)
HEARTBEAT = HeartbeatAnswer(lease_seconds=60, cancelled=False, paused=False, concurrency=CONCURRENCY)


def answer(status: str, document: object) -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    head += f"{CONTRACT_HEADER}: {CONTRACT_VERSION}\r\n"
    return f"{head}{VERDICT_HEADER}: {RowVerdict.CREATED}\r\n\r\n".encode() + body


ANSWERS = {
    b"claim": answer("200 OK", asdict(CLAIM)),
    b"heartbeat": answer("200 OK", asdict(HEARTBEAT)),
    b"finish": answer("200 OK", {"status": "done"}),
    b"": answer("201 Created", {"id": 1}),
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection until the client closes it."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if length := re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE):
                await reader.readexactly(int(length[1]))
            writer.write(ANSWERS[path.rpartition(b"/")[2]])
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
