"""The protocol of every stage: weights and config in the object, everything else in a state that is passed along.

    state = stage.init_state()
    for x in stream:
        y, state = stage.step(x, state)
    tail = stage.flush(state)

``step`` never changes the state it is given, so a stream can be copied, paused, batched and resumed elsewhere.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

X = TypeVar("X", contravariant=True)
Y = TypeVar("Y", covariant=True)
S = TypeVar("S")


class Stage(Protocol[X, Y, S]):
    """One stage of the pipeline."""

    def init_state(self) -> S:
        """Return the state of a stream that has not begun."""
        ...

    def step(self, x: X, state: S) -> tuple[Y, S]:
        """Take what has arrived; return what is ready and the state that follows."""
        ...

    def flush(self, state: S) -> Y:
        """Return what is left when nothing more will arrive."""
        ...
