"""The runner's end of one gateway connection."""

import asyncio

from inference.local.dispatcher import Dispatcher
from inference.local.protocol import (
    Cancel,
    Embed,
    FrameReader,
    Generate,
    Message,
    ProtocolError,
    Step,
    decode,
    encode,
)
from inference.local.runner_spec import EngineStats

# A gateway that does not read for this much is stuck: it is cut off, not buffered for ever.
# Vectors are large: those of 2048 inputs with 4096 dimensions each must fit.
MAX_UNSENT_BYTES = 40 * 1024 * 1024
_READ_BYTES = 64 * 1024
_CLOSE_TIMEOUT_S = 2.0


class Session:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._last_stats = EngineStats()
        self.ended = asyncio.Event()

    def send(self, message: Message) -> None:
        """Never blocks and never raises for a connection that is gone or stuck."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        if isinstance(message, Step):
            self._last_stats = message.stats
        self._writer.write(encode(message))
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            transport.abort()

    def send_stats(self, stats: EngineStats) -> None:
        """For a gateway whose own requests do not tell it what the others do."""
        if stats != self._last_stats:
            self.send(Step((), stats))

    async def read(self, reader: asyncio.StreamReader, dispatcher: Dispatcher) -> None:
        """Serve what the client asks until it hangs up; raises ProtocolError."""
        frames = FrameReader()
        while data := await reader.read(_READ_BYTES):
            for body in frames.feed(data):
                match decode(body):
                    case Generate(number, request) | Embed(number, request):
                        dispatcher.accept(self, number, request)
                    case Cancel(number):
                        dispatcher.cancel(self, number)
                    case other:
                        raise ProtocolError(f"a client does not send {type(other).__name__}")

    async def close(self) -> None:
        """Send what is still buffered, for a moment, then hang up."""
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._writer.wait_closed()
        except TimeoutError:
            self._writer.transport.abort()
        except OSError:
            return
