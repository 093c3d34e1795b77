"""A TCP proxy that is far away: `python -m benchmarks.proxy PORT TARGET_PORT ROUND_TRIP WINDOW`.

Bytes take half the round trip in each direction, and a connection one round trip to open. WINDOW is
how many bytes a new connection may have under way, 14,600 on the internet (RFC 6928); it grows as
in slow start. 0 is no window. Loss and bandwidth are not modelled.
"""

from __future__ import annotations

import asyncio
import sys


async def main(port: int, target: int, round_trip: float, window: int) -> None:
    loop = asyncio.get_running_loop()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        allowed = window or sys.maxsize
        acknowledged = asyncio.Event()

        def acknowledge(count: int) -> None:
            nonlocal allowed
            allowed += 2 * count  # what was under way, and as much again: RFC 5681 §3.1
            acknowledged.set()

        while received := await reader.read(65536):
            while received:
                part, received = received[:allowed], received[allowed:]
                allowed -= len(part)
                loop.call_later(round_trip / 2, writer.write, part)
                loop.call_later(round_trip, acknowledge, len(part))
                if received:
                    acknowledged.clear()
                    await acknowledged.wait()
        loop.call_later(round_trip / 2, writer.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The client has its connection at once; so that it pays for it, nothing moves until then.
        await asyncio.sleep(round_trip)
        behind, before = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(pipe(reader, before), pipe(behind, writer), return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
