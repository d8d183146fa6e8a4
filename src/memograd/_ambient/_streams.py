"""The global random streams of the moment, of every library that is loaded: read them, and set them back."""

from __future__ import annotations

import sys
from array import array
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

State = tuple[Any, ...]


def read_streams(names: Iterable[str] | None = None) -> dict[str, State]:
    """Read the states of global streams, all or those named, as values that compare."""
    states: dict[str, State] = {}
    for name in _STREAMS if names is None else names:
        read, _ = _STREAMS[name]
        if _loaded(name):
            # Under a fake tensor mode, say, torch does not show its state: there is none to set back, then.
            with suppress(Exception):
                states[name] = read(sys.modules[name])
    return states


def set_streams(states: dict[str, State]) -> None:
    """Set the streams to what they were when `states` was read."""
    for name, state in states.items():
        _, write = _STREAMS[name]
        write(sys.modules[name], state)


@contextmanager
def streams_put_back() -> Generator[dict[str, State]]:
    """Leave the streams, after a block, as they were before it; gives what they were."""
    before = read_streams()
    try:
        yield before
    finally:
        set_streams(before)


def loaded_streams() -> tuple[str, ...]:
    """Name the global streams whose libraries are loaded."""
    return tuple(name for name in _STREAMS if _loaded(name))


def are_streams(names: Iterable[object]) -> bool:
    """Tell whether all of these are names of global streams."""
    return all(isinstance(name, str) and name in _STREAMS for name in names)


def is_like(state: object, other: object) -> bool:
    """Tell whether what was read somewhere can be set where another state was read: the generators check little."""
    if type(state) is not type(other):
        return (state is None or type(state) is float) and (other is None or type(other) is float)
    mine, theirs = cast("Any", state), cast("Any", other)
    if type(state) is dict:
        return mine.keys() == theirs.keys() and all(
            is_like(mine[k], theirs[k]) and (k != "pos" or 0 <= mine[k] <= _WORDS) for k in mine
        )
    if isinstance(state, (tuple, list)):
        return len(mine) == len(theirs) and all(map(is_like, mine, theirs))
    if hasattr(state, "dtype"):
        return mine.dtype == theirs.dtype and mine.shape == theirs.shape
    if type(state) in {bytes, str}:
        return len(mine) == len(theirs) and (type(state) is bytes or mine == theirs)
    # A place among the words of a Mersenne twister is the one number that leads out of them.
    return type(state) is not int or 0 <= state < 1 << 128


_WORDS = 624


def are_states(states: Mapping[str, State]) -> bool:
    """Tell whether streams can be set to these states, whoever says so."""
    if not are_streams(states):
        return False
    now = read_streams(states)
    return now.keys() == states.keys() and all(
        is_like(states[name], now[name]) and (name != "numpy.random" or 0 <= states[name][3] <= _WORDS) for name in now
    )


def are_generators(values: Sequence[Any], states: Mapping[int, Any]) -> bool:
    """Tell whether the generators among some values can be set to these states."""
    now = read_generators(values)
    return all(at in now and is_like(state, now[at]) for at, state in states.items())


def _loaded(name: str) -> bool:
    # A module that is just being imported, or is blocked, has no streams yet.
    return hasattr(sys.modules.get(name), "get_rng_state" if name == "torch" else "seed")


def _read_random(module: Any) -> State:
    version, words, gauss = module.getstate()
    return version, array("L", words).tobytes(), gauss


def _set_random(module: Any, state: State) -> None:
    version, words, gauss = state
    module.setstate((version, tuple(memoryview(words).cast("L")), gauss))


def _read_numpy(module: Any) -> State:
    name, words, *rest = module.get_state()
    return name, words.tobytes(), str(words.dtype), *rest


def _set_numpy(module: Any, state: State) -> None:
    numpy: Any = sys.modules["numpy"]
    name, words, dtype, *rest = state
    module.set_state((name, numpy.frombuffer(words, dtype), *rest))


def _read_torch(torch: Any) -> State:
    cuda: Any = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else ()
    return tuple(state.numpy().tobytes() for state in (torch.get_rng_state(), *cuda))


def _set_torch(torch: Any, state: State) -> None:
    cpu, *cuda = (torch.frombuffer(bytearray(words), dtype=torch.uint8) for words in state)
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)


_STREAMS: dict[str, tuple[Callable[[Any], State], Callable[[Any, State], None]]] = {
    "random": (_read_random, _set_random),
    "numpy.random": (_read_numpy, _set_numpy),
    "torch": (_read_torch, _set_torch),
}


def read_generators(values: Sequence[Any]) -> dict[int, Any]:
    """Read the states of the generators among some values, by their place."""
    return {at: read(value) for at, value in enumerate(values) if (read := _way(value)[0]) is not None}


def set_generators(values: Sequence[Any], states: Mapping[int, Any]) -> None:
    """Set the generators among some values to these states."""
    for at, state in states.items():
        write = _way(values[at])[1]
        if write is not None:
            write(values[at], state)


def _way(value: object) -> tuple[Any, Any]:
    """Find how the state of a generator is read and set; None for what is none."""
    for kind in type(value).__mro__:
        way = _GENERATORS.get(f"{kind.__module__}.{kind.__qualname__}")
        if way is not None:
            return way
    return None, None


def _set_torch_generator(generator: Any, state: bytes) -> None:
    generator.set_state(sys.modules["torch"].frombuffer(bytearray(state), dtype=sys.modules["torch"].uint8))


def _set_numpy_generator(generator: Any, state: Any) -> None:
    generator.bit_generator.state = state


_GENERATORS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], object]]] = {
    "random.Random": (lambda g: g.getstate(), lambda g, state: g.setstate(state)),
    "torch._C.Generator": (lambda g: g.get_state().numpy().tobytes(), _set_torch_generator),
    "numpy.random._generator.Generator": (lambda g: g.bit_generator.state, _set_numpy_generator),
    "numpy.random.mtrand.RandomState": (lambda g: g.get_state(legacy=False), lambda g, state: g.set_state(state)),
}
