"""Files that were joined end to end: where the times of the packets begin again, they are taken to go on.

    0 ... 30 | 1.4 ... 20    is read as    0 ... 30 | 30 ... 48.6

A recorder that starts anew, or ``cat a.ts b.ts``, leaves such a file. A single damaged time looks the same for a
moment, so packets whose times went back are held until a second of them bears it out. A leap ahead is a gap, and stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from av.packet import Packet as AvPacket

BACK_S = Fraction(1, 2)
"""Times that go back by no more are disorder, for the tracks to deal with."""
AHEAD_S = 2
"""Times that leap ahead by more may be damaged, and then it is no return when they fall back."""
WRAP_S = Fraction(2**33, 90_000)
"""After 26.5 hours MPEG's clock begins anew. FFmpeg adds that to times before the first: a return looks like a leap."""
CLOSE_S = Fraction(1, 5)
"""A packet so close behind those that are held goes with them, even where they have come as far as the others."""
PROOF_S = 1
"""How long the packets after such a leap, or after a return, must run on to be believed."""
MAX_HELD = 512
"""So many packets wait at the most for one with a time."""


@dataclass(slots=True)
class _Stream:
    """How far one stream has come, on the clock of the whole.

    ``run`` is from when until when the last doubtful times go; ``held`` are packets that went back, with their own.
    """

    piece: int = 0
    reached: Fraction | None = None
    run: tuple[Fraction, Fraction] | None = None
    held: list[tuple[Fraction, AvPacket[Any]]] = field(default_factory=list)


class JoinedTimes:
    """Gives packets, in the order of the file, the times of one clock; ``joins_at`` are those at which pieces meet.

    All streams move on by the same time, so that sound and pictures stay together. Packets without a time go with
    those before them.
    """

    def __init__(self) -> None:
        self.joins_at: list[Fraction] = []
        self._offsets = [Fraction(0)]
        self._streams: dict[int, _Stream] = {}

    def place(self, packet: AvPacket[Any]) -> Iterator[AvPacket[Any]]:
        """Take the next packet; yield those that are sure of their times by now, with these."""
        stream, stated = self._streams.setdefault(packet.stream_index, _Stream()), _stated_time(packet)
        if stated is None:
            if 0 < len(stream.held) < MAX_HELD:
                stream.held.append((stream.held[-1][0], packet))
            else:
                yield from self._release(stream)
                yield packet
            return
        while stream.piece + 1 < len(self._offsets) and self._is_of_the_next_piece(stated, stream):
            yield from self._go_on_to_the_next_piece(stream)
        time = stated + self._offsets[stream.piece]
        ahead = Fraction(0) if stream.reached is None else time - stream.reached
        goes_with_held = stream.held and stream.run and abs(time - stream.run[1]) < max(abs(ahead), CLOSE_S)
        has_wrapped = ahead > AHEAD_S and stated - ahead < WRAP_S <= stated
        if goes_with_held or ahead < -BACK_S or has_wrapped:
            yield from self._hold(packet, stated, time, stream)
            return
        yield from self._release(stream)  # if anything was held, its times were damaged
        if ahead <= AHEAD_S:
            stream.run, stream.reached = None, max(_end_of(packet, time), stream.reached or time)
        elif self._runs_on(stream, time):
            stream.run, stream.reached = None, _end_of(packet, time)
        yield self._moved(packet, stream)

    def flush(self) -> Iterator[AvPacket[Any]]:
        """Yield what is held when the file ends; a single packet does not make a piece."""
        for stream in self._streams.values():
            if len(stream.held) > 1:
                yield from self._go_on_to_the_next_piece(stream)
            yield from self._release(stream)

    def _hold(
        self, packet: AvPacket[Any], stated: Fraction, time: Fraction, stream: _Stream
    ) -> Iterator[AvPacket[Any]]:
        if stream.held and stated < stream.held[-1][0]:
            yield from self._release(stream)
        if not stream.held:
            stream.run = None
        stream.held.append((stated, packet))
        if self._runs_on(stream, time):
            yield from self._go_on_to_the_next_piece(stream)

    def _is_of_the_next_piece(self, stated: Fraction, stream: _Stream) -> bool:
        """Whether that brings it nearer to the streams that are there already: neighbours in a file are of a time."""
        there = max(other.reached or Fraction(0) for other in self._streams.values() if other.piece > stream.piece)
        here, next_one = self._offsets[stream.piece : stream.piece + 2]
        return abs(stated + next_one - there) < abs(stated + here - there)

    def _go_on_to_the_next_piece(self, stream: _Stream) -> Iterator[AvPacket[Any]]:
        if stream.piece + 1 == len(self._offsets):
            self._begin_a_piece(stream.piece)
        stream.piece, stream.run, stream.reached = stream.piece + 1, None, None
        if stream.held:
            stated, last = stream.held[-1]
            stream.reached = _end_of(last, stated + self._offsets[stream.piece])
        yield from self._release(stream)

    def _runs_on(self, stream: _Stream, time: Fraction) -> bool:
        """Whether doubtful times, of which ``time`` is the next, have run on for long enough."""
        first, last = stream.run or (time, time)
        stream.run = (first, time) if time >= last else (time, time)
        return time - stream.run[0] >= PROOF_S

    def _begin_a_piece(self, before: int) -> None:
        """Let the piece after ``before`` begin where the furthest stream has come to."""
        end = max(stream.reached for stream in self._streams.values() if stream.reached is not None)
        held = [stream.held[0] for stream in self._streams.values() if stream.held and stream.piece == before]
        self._offsets.append(end - min(stated for stated, _ in held))
        self.joins_at.append(end)

    def _release(self, stream: _Stream) -> Iterator[AvPacket[Any]]:
        held, stream.held = stream.held, []
        if held:
            stream.run = None
        for _, packet in held:
            yield self._moved(packet, stream)

    def _moved(self, packet: AvPacket[Any], stream: _Stream) -> AvPacket[Any]:
        offset = self._offsets[stream.piece]
        if offset and packet.time_base:
            moved = round(offset / packet.time_base)
            packet.pts = packet.pts + moved if packet.pts is not None else None
            packet.dts = packet.dts + moved if packet.dts is not None else None
        return packet


def _stated_time(packet: AvPacket[Any]) -> Fraction | None:
    """Return when a packet is to be decoded, which goes up from packet to packet where ``pts`` need not."""
    time = packet.dts if packet.dts is not None else packet.pts
    return time * packet.time_base if time is not None and packet.time_base else None


def _end_of(packet: AvPacket[Any], time: Fraction) -> Fraction:
    return time + (packet.duration or 0) * (packet.time_base or 0)
