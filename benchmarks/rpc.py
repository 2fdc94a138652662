"""What a call costs: request and answer through two RPC machines in memory, frames encoded and decoded.

No network, no encryption: this is what RPC adds to a datagram each way. Beside it stand the codec alone (the
same two frames encoded, decoded and compared, with no state at all), and a large body both ways, where the
copying into chunks and out of them is the work. All run in rounds, one after the other, as the machine's
speed drifts; a figure is the median over the rounds.

    python -m benchmarks.rpc
"""

import json
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from protocols.messages import encode
from protocols.rpc.calls import Completed, Incoming, Output, RpcConfig, Send
from protocols.rpc.frames import FRAMES, TRACE_NONE, Frame, Request, Response
from protocols.rpc.machine import Rpc

ROUNDS = 30
SIZES = {"100 B": 100, "16 KiB": 16_000, "350 kB": 350_000}
DEVICES = (bytes(32), bytes([1]) * 32)
TIMEOUT_NS = 10 * 10**9
IDLE = 1_000


class Pair:
    """Two connected machines; the second answers with the question."""

    def __init__(self) -> None:
        config = RpcConfig()
        self.rpcs = (Rpc(config, ("echo",)), Rpc(config, ("echo",)))
        self.now = 0
        self.token = 0
        for end in (0, 1):
            self.rpcs[end].session_up(1, DEVICES[1 - end], 1 - end, 0)

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


def run() -> Iterator[dict[str, Any]]:
    for label, size in SIZES.items():
        body = encode(("echo.question", bytes(size)))
        pair = Pair()
        calls = 500 if size < 1_000 else 50 if size < 100_000 else 5
        runs: dict[str, Callable[[], object]] = {"spacepanda": partial(pair.call, body)}
        if size <= 16_000:
            runs["codec alone"] = partial(_codec, body)
        for name, seconds in _medians(runs, calls).items():
            yield {"case": f"call and answer, {label} each", "who": name, "us": round(seconds * 1e6, 2)}
    yield {"case": "idle machine", "who": "spacepanda", "bytes": round(_idle_machine())}
    yield {"case": "idle session", "who": "spacepanda", "bytes": round(_idle_session())}


def _codec(body: bytes) -> None:
    frames: tuple[Frame, ...] = (Request(1, 1, TRACE_NONE, len(body), body), Response(1, len(body), body))
    for frame in frames:
        FRAMES.decode(encode(frame))


def _medians(runs: dict[str, Callable[[], object]], calls: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, function in runs.items():
            start = time.perf_counter()
            for _ in range(calls):
                function()
            seconds[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(rounds) for name, rounds in seconds.items()}


def _idle_machine() -> float:
    config = RpcConfig()
    return _memory(lambda: [Rpc(config, ("echo",)) for _ in range(IDLE)]) / IDLE


def _idle_session() -> float:
    rpc = Rpc(RpcConfig(), ("echo",))
    devices = [index.to_bytes(32, "big") for index in range(IDLE)]
    return _memory(lambda: [rpc.session_up(1000 + index, devices[index], 7, 0) for index in range(IDLE)]) / IDLE


def _memory(build: Callable[[], list[Any]]) -> float:
    tracemalloc.start()
    kept = build()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
