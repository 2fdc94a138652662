"""What a call costs: request and answer through two RPC machines in memory, frames encoded and decoded.

No network, no encryption: this is what RPC adds to a datagram each way. Beside it stand the codec alone (the
same two frames encoded, decoded and compared, with no state at all), and a large body both ways, where the
copying into chunks and out of them is the work. ``ratio`` is our time over that of the codec: the nearer to 1,
the better.
"""

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.rows import OURS, Row, interleaved, main, row, time_us, traced_bytes
from protocols.messages import encode
from protocols.rpc.calls import Completed, Incoming, Output, RpcConfig, Send
from protocols.rpc.frames import FRAMES, TRACE_NONE, Frame, Request, Response
from protocols.rpc.machine import Rpc

ROUNDS = 30
SIZES = {"100 B": 100, "16 KiB": 16_000, "350 kB": 350_000}
DEVICES = (bytes(32), bytes([1]) * 32)
TIMEOUT_NS = 10 * 10**9
IDLE = 1_000
BINDING = bytes(32)


class Pair:
    """Two connected machines; the second answers with the question."""

    def __init__(self) -> None:
        config = RpcConfig()
        self.rpcs = (Rpc(config, ("echo",)), Rpc(config, ("echo",)))
        self.now = 0
        self.token = 0
        for end in (0, 1):
            self.rpcs[end].session_up(1, DEVICES[1 - end], 1 - end, BINDING, 0)

    def call(self, body: bytes) -> None:
        """One call, to its end."""
        self.now += 1_000_000
        self.token += 1
        answered = False
        call = self.rpcs[0].call("bench", self.token, DEVICES[1], 1, body, TIMEOUT_NS, self.now)
        road = [(0, output) for output in call]
        for end, output in road:
            answered |= isinstance(output, Completed)
            road += [(1 - end, follows) for follows in self._carry(end, output)] if isinstance(output, Send) else []
            road += [(end, follows) for follows in self._serve(end, output)] if isinstance(output, Incoming) else []
        if not answered:
            raise RuntimeError("no answer")
        for rpc in self.rpcs:
            rpc.deadline()

    def _carry(self, end: int, send: Send) -> list[Output]:
        frame = FRAMES.decode(send.data)
        return self.rpcs[1 - end].receive(1, DEVICES[end], end, frame, self.now)

    def _serve(self, end: int, request: Incoming) -> list[Output]:
        return self.rpcs[end].respond(request.call, request.body, self.now)


def run(quick: bool) -> Iterator[Row]:
    """A call at three sizes, then what an idle machine and an idle session cost."""
    for label, size in SIZES.items():
        body = encode(("echo.question", bytes(size)))
        works: dict[str, Callable[[], None]] = {OURS: partial(Pair().call, body)}
        if size <= 16_000:
            works["codec"] = partial(_codec, body)
        calls = 1 if quick else 500 if size < 1_000 else 50 if size < 100_000 else 5
        measures = {who: partial(time_us, work, calls) for who, work in works.items()}
        yield row("rpc", f"call and answer, {label} each", "us", interleaved(measures, 1 if quick else ROUNDS))
    count = 10 if quick else IDLE
    machine = traced_bytes(lambda _: Rpc(RpcConfig(), ("echo",)), count)
    yield row("rpc", "idle machine", "bytes", {OURS: [machine]})
    rpc = Rpc(RpcConfig(), ("echo",))
    session = traced_bytes(lambda index: rpc.session_up(1_000 + index, index.to_bytes(32), 7, BINDING, 0), count)
    yield row("rpc", "idle session", "bytes", {OURS: [session]})


def _codec(body: bytes) -> None:
    frames: tuple[Frame, ...] = (Request(1, 1, TRACE_NONE, len(body), body), Response(1, len(body), body))
    for frame in frames:
        FRAMES.decode(encode(frame))


if __name__ == "__main__":
    main(run)
