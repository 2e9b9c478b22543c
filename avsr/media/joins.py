"""Files that were joined end to end: where the packets' times begin again, the new piece is shifted to follow the old.

    0 ... 30 | 1.4 ... 20    is read as    0 ... 30 | 30 ... 48.6

A recorder that restarts, or ``cat a.ts b.ts``, leaves such a file. A single damaged time looks the same for a moment,
so packets whose times went back are held until a second of them confirms it. A leap ahead is a gap, and stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from av.packet import Packet as AvPacket

BACK_S = Fraction(1, 2)
"""Times that go back by no more than this are disorder, which the tracks deal with."""
AHEAD_S = 2
"""Times that leap ahead by more may be damaged; when they fall back from there, no piece begins."""
WRAP_S = Fraction(2**33, 90_000)
"""The period of MPEG's clock, 26.5 hours. FFmpeg adds it to times before the file's first, so that a return to an
earlier time may look like a leap ahead by this much."""
CLOSE_S = Fraction(1, 5)
"""A packet this close to the held ones belongs to them, even where its time would also fit the old piece."""
PROOF_S = 1
"""For this long the packets after a leap or a return must run on before it is believed."""
MAX_HELD = 512
"""At most so many packets of a stream are held."""


@dataclass(slots=True)
class _Stream:
    """One stream of the file: the index of its ``piece``, and the time that it has ``reached`` on the common clock.

    ``run`` is (first, last) of the doubtful times now running on; ``held`` are packets that went back, with the times
    that they state.
    """

    piece: int = 0
    reached: Fraction | None = None
    run: tuple[Fraction, Fraction] | None = None
    held: list[tuple[Fraction, AvPacket[Any]]] = field(default_factory=list)

    def believe_leap(self) -> None:
        """Accept packets after a leap ahead, however few, as what follows a gap."""
        if self.run is not None and not self.held:
            if self.run[0] < self.run[1]:
                self.reached = self.run[1]
            self.run = None


class JoinedTimes:
    """Puts packets, in the order of the file, on one common clock; ``joins_at`` are the times at which pieces meet.

    All streams of a piece are shifted by the same time, so that sound and pictures stay together. Packets without a
    time go with those before them.
    """

    def __init__(self) -> None:
        self.joins_at: list[Fraction] = []
        self._offsets = [Fraction(0)]
        self._streams: dict[int, _Stream] = {}

    def place(self, packet: AvPacket[Any]) -> Iterator[AvPacket[Any]]:
        """Take the next packet; yield those whose times are certain by now, shifted."""
        stream, stated = self._streams.setdefault(packet.stream_index, _Stream()), _stated_time(packet)
        if stated is None:
            if 0 < len(stream.held) < MAX_HELD:
                stream.held.append((stream.held[-1][0], packet))
            else:
                yield from self._release(stream)
                yield packet
            return
        for _ in range(self._piece_of(stated, stream) - stream.piece):
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
        """Yield what is held when the file ends; a single packet is not taken for a new piece."""
        for stream in self._streams.values():
            if len(stream.held) > 1:
                yield from self._go_on_to_the_next_piece(stream)
            yield from self._release(stream)

    def _hold(
        self, packet: AvPacket[Any], stated: Fraction, time: Fraction, stream: _Stream
    ) -> Iterator[AvPacket[Any]]:
        disorder_s = BACK_S if packet.stream.type == "video" else 0  # sound is never reordered
        if stream.held and stream.run and (time < stream.run[1] - disorder_s or len(stream.held) >= MAX_HELD):
            yield from self._release(stream)
        stream.believe_leap()
        stream.held.append((stated, packet))
        if self._runs_on(stream, time):
            yield from self._go_on_to_the_next_piece(stream)

    def _piece_of(self, stated: Fraction, stream: _Stream) -> int:
        """Return the piece, of this one and later ones, in which ``stated`` is nearest to its neighbours in the file.

        Those are the packets of streams that are there already; in the stream's own piece, the packet before, since
        the last picture of a piece may be held back until the next one comes.
        """
        there = max(other.reached or Fraction(0) for other in self._streams.values())

        def distance(piece: int) -> Fraction:
            known = stream.reached if piece == stream.piece and stream.reached is not None else there
            return abs(stated + self._offsets[piece] - known)

        return min(range(stream.piece, len(self._offsets)), key=distance)

    def _go_on_to_the_next_piece(self, stream: _Stream) -> Iterator[AvPacket[Any]]:
        if stream.piece + 1 == len(self._offsets):
            self._begin_a_piece(stream.piece)
        stream.piece, stream.run, stream.reached = stream.piece + 1, None, None
        if stream.held:
            stream.reached = self._offsets[stream.piece] + max(_end_of(last, stated) for stated, last in stream.held)
        yield from self._release(stream)

    def _runs_on(self, stream: _Stream, time: Fraction) -> bool:
        """Add ``time`` to the run of doubtful times; tell whether it is long enough to be believed."""
        first, last = stream.run or (time, time)
        stream.run = (first, max(last, time)) if time >= last - BACK_S else (time, time)
        return time - stream.run[0] >= PROOF_S

    def _begin_a_piece(self, before: int) -> None:
        """Let the piece after ``before`` begin at the latest time that any stream has reached."""
        for stream in self._streams.values():
            stream.believe_leap()
        end = max(stream.reached for stream in self._streams.values() if stream.reached is not None)
        held = [stated for stream in self._streams.values() if stream.piece == before for stated, _ in stream.held]
        self._offsets.append(end - min(held))
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
    """Return when a packet is to be decoded: unlike ``pts`` of pictures, that rises from packet to packet."""
    time = packet.pts if packet.dts is None and packet.stream.type == "audio" else packet.dts
    return time * packet.time_base if time is not None and packet.time_base else None


def _end_of(packet: AvPacket[Any], time: Fraction) -> Fraction:
    return time + (packet.duration or 0) * (packet.time_base or 0)
