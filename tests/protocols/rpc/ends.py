"""Two RPC machines, a session between them, and a network whose every datagram has a scripted fate."""

from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush

import msgspec

from protocols.messages import encode
from protocols.rpc.calls import (
    MS,
    Completed,
    Connect,
    Disconnect,
    Failed,
    Incoming,
    Output,
    Replayed,
    RpcConfig,
    Send,
)
from protocols.rpc.frames import FRAMES, Frame
from protocols.rpc.machine import Rpc

ALICE, BOB = 0, 1
DEVICES = (b"A" * 32, b"B" * 32)
NAMESPACES = ("test",)
BINDING = b"session between the two machines"
DELAY_NS = 20 * MS
TIMEOUT_NS = 10_000 * MS

Fate = Callable[[int], Sequence[int]]
"""The delays of the copies of the n-th datagram; none: it is lost."""


def question(text: bytes = b"", kind: str = "test.question") -> bytes:
    """A body as a service would encode it."""
    return encode((kind, text))


def text_of(body: bytes) -> bytes:
    """What ``question`` was given."""
    text: bytes = msgspec.msgpack.decode(body)[1]
    return text


def in_order(_: int) -> Sequence[int]:
    return (DELAY_NS,)


class Ends:
    """Alice and Bob. Session 1 of Alice is session 2 of Bob."""

    def __init__(self, fate: Fate = in_order, config: RpcConfig | None = None, connected: bool = True) -> None:
        self.now = 0
        self.fate = fate
        self.config = config or RpcConfig()
        self.rpcs = [Rpc(self.config, NAMESPACES), Rpc(self.config, NAMESPACES)]
        self.answer: Callable[[bytes], bytes | None] = lambda body: question(text_of(body))
        self.completed: list[Completed] = []
        self.failed: list[Failed] = []
        self.incoming: list[Incoming] = []
        self.replayed: list[str] = []
        self.connects: list[Connect] = []
        self.disconnects: list[Disconnect] = []
        self.sent: list[tuple[int, int, Frame]] = []
        """(time, sender, frame) of every datagram, lost ones included."""
        self.repeated = 0
        self.reborn = False
        """Whether every machine goes to bytes and back before each of its steps."""
        self._network: list[tuple[int, int, int, bytes]] = []
        if connected:
            self.connect()

    def connect(self) -> None:
        for end in (ALICE, BOB):
            session, device, endpoint = 1 + end, DEVICES[1 - end], 101 - end
            up = partial(Rpc.session_up, session=session, device=device, endpoint=endpoint, binding=BINDING)
            self.do(end, partial(up, now=self.now))

    def do(self, end: int, step: Callable[[Rpc], list[Output]]) -> None:
        """One step of one machine, and what follows at once."""
        if self.reborn:
            data = self.rpcs[end].to_bytes()
            self.rpcs[end] = Rpc.from_bytes(data, self.config, NAMESPACES)
            assert self.rpcs[end].to_bytes() == data
        for output in step(self.rpcs[end]):
            match output:
                case Send():
                    self.repeated += output.repeated
                    self.sent.append((self.now, end, FRAMES.decode(output.data)))
                    for delay in self.fate(len(self.sent) - 1):
                        number = len(self._network) + len(self.sent) * 1000
                        heappush(self._network, (self.now + delay, number, 1 - end, output.data))
                case Completed():
                    self.completed.append(output)
                case Failed():
                    self.failed.append(output)
                case Incoming():
                    self.incoming.append(output)
                    body = self.answer(output.body)
                    if body is not None:
                        self.respond(output.call, body, end)
                case Connect():
                    self.connects.append(output)
                case Disconnect():
                    self.disconnects.append(output)
                case Replayed():
                    self.replayed.append(output.outcome)

    def call(self, body: bytes, token: int = 0, timeout_ns: int = TIMEOUT_NS, end: int = ALICE) -> None:
        device = DEVICES[1 - end]
        self.do(end, lambda rpc: rpc.call("dht", token, device, 101 - end, body, timeout_ns, self.now))

    def respond(self, call: int, body: bytes, end: int = BOB) -> None:
        self.do(end, lambda rpc: rpc.respond(call, body, self.now))

    def receive(self, end: int, frame: Frame) -> None:
        """A frame out of the blue, over the session."""
        session, device, endpoint = 1 + end, DEVICES[1 - end], 101 - end
        self.do(end, lambda rpc: rpc.receive(session, device, endpoint, frame, self.now))

    def run(self, until: int = 2**62) -> None:
        """Until nothing is left to do, or the time has come."""
        while True:
            times = [time for rpc in self.rpcs if (time := rpc.deadline()) is not None]
            if self._network:
                times.append(self._network[0][0])
            if not times or min(times) > until:
                break
            self.now = max(self.now, min(times))
            while self._network and self._network[0][0] <= self.now:
                _, _, end, data = heappop(self._network)
                self.receive(end, FRAMES.decode(data))
            for end in (ALICE, BOB):
                self.do(end, lambda rpc: rpc.expire(self.now))
        if until < 2**62:
            self.now = until

    @property
    def ended(self) -> list[Completed | Failed]:
        return [*self.completed, *self.failed]

    def frames(self, kind: type[Frame]) -> list[Frame]:
        return [frame for _, _, frame in self.sent if isinstance(frame, kind)]
