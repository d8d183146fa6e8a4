"""What a model's forward does, step by step, as far as torch.fx can follow it (Reed et al. 2022).

Modules that are frozen as a whole, or live as a whole, are steps as they are: only the code between them must be such
that it can be followed, which is the code of whoever puts a backbone and a head together.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, fx, nn

from memograd._ambient._streams import read_streams, set_streams
from memograd._rows._judge import on_the_side
from memograd._rows._part import Step, Value, may_be_dropped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_OPS = {"call_module": "module", "get_attr": "tensor", "call_function": "function", "call_method": "method"}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_PLAIN = (bool, int, float, str, type(None))


class Unfollowed(Exception):  # noqa: N818 - control flow: the model is run as it is, for the reason that it says
    """A forward that cannot be followed."""


class Course(NamedTuple):
    """What a forward does.

    Attributes:
        takes: names of its arguments that are no constants, in order.
        steps: in order.
        gives: the result, with `Value` for what steps give.
        inner: modules whose code was followed, the model itself among them.
        unfollowed: places of modules that are both frozen and live, and were taken as they are; with the reason.
    """

    takes: tuple[str, ...]
    steps: tuple[Step, ...]
    gives: Any
    inner: tuple[nn.Module, ...]
    unfollowed: dict[str, str]


def followed(model: nn.Module, bound: Mapping[str, Any], whole: Callable[[nn.Module], bool]) -> Course:
    """Follow a model's forward.

    Args:
        model: the model.
        bound: what it is called with, by the names of its parameters.
        whole: tells whether a submodule is one step.

    Raises:
        Unfollowed: it cannot be followed; the message says why.
    """
    constants = {name: value for name, value in bound.items() if is_constant(value)}
    names = _parameters(model)
    # Twice, as a forward may ask whether grad is on; torch.fx follows the one way that it takes then.
    tracer, graph = _traced(model, constants, whole, grad=True)
    if str(_traced(model, constants, whole, grad=False)[1]) != str(graph):
        raise Unfollowed(f"{type(model).__name__}.forward does something else where grad is off")
    return _course(graph, names, constants, tracer)


def _traced(
    model: nn.Module, constants: Mapping[str, Any], whole: Callable[[nn.Module], bool], *, grad: bool
) -> tuple[_Tracer, fx.Graph]:
    """Let torch.fx follow a forward, and see what it cannot: draws, modes, what is kept on the side."""
    if why := on_the_side(type(model).forward):
        raise Unfollowed(f"{type(model).__name__}.forward {why}")
    tracer, streams = _Tracer(whole), read_streams()
    before = [(module, dict(vars(module))) for module in model.modules()]
    try:
        with torch.set_grad_enabled(grad):
            tracer.modes = _modes()
            graph = tracer.trace(model, dict(constants) or None)
    except Unfollowed:
        raise
    except Exception as error:
        raise Unfollowed(_said(model, error)) from error
    finally:
        drew = read_streams() != streams
        set_streams(streams)
        kept = [type(module).__name__ for module, then in before if _put_back(module, then)]
    if drew:
        raise Unfollowed(f"{type(model).__name__}.forward draws random numbers between its modules")
    if kept:
        raise Unfollowed(f"{kept[0]}.forward sets an attribute")
    return tracer, graph


def _put_back(module: nn.Module, then: dict[str, Any]) -> bool:
    """Undo what a forward has set on a module, and tell whether it has."""
    now = vars(module)
    if now.keys() == then.keys() and all(now[name] is then[name] for name in then):
        return False
    for name in now.keys() - then.keys():
        del now[name]
    now.update(then)
    return True


def _modes() -> tuple[object, ...]:
    """Read the modes that a forward may enter and leave, which torch.fx does not note."""
    devices = ("cpu", "cuda")
    casts = ((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in devices)
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *casts


def is_constant(value: Any) -> bool:
    """Tell whether an argument is a plain value, which the course may depend on."""
    return isinstance(value, _PLAIN)


def has_hooks(module: nn.Module) -> bool:
    """Tell whether something is called beside a module's own forward."""
    return any(vars(module)[hooks] for hooks in _HOOKS)


def _parameters(model: nn.Module) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise Unfollowed(f"{type(model).__name__}.forward takes any arguments, which torch.fx cannot follow")
    return [p.name for p in parameters]


def _said(model: nn.Module, error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return f"torch.fx cannot follow {type(model).__name__}.forward: {lines[0]}"


class _Tracer(fx.Tracer):
    # Else a buffer that is read as a number is a constant: its value of the moment, for ever.
    proxy_buffer_attributes = True

    def __init__(self, whole: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.whole = whole
        self.inner: list[nn.Module] = []
        self.unfollowed: dict[str, str] = {}
        self.modes: tuple[object, ...] = ()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if _modes() != self.modes:
            raise Unfollowed("the forward enters a mode (no_grad, autocast) between its modules")
        return super().create_node(*args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self.whole(m) or has_hooks(m) or module_qualified_name in self.unfollowed

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        place = self.path_of_module(m)
        if self.is_leaf_module(m, place):
            return super().call_module(m, forward, args, kwargs)
        if why := on_the_side(type(m).forward):
            self.unfollowed[place] = f"{type(m).__name__}.forward {why}"
            return super().call_module(m, forward, args, kwargs)
        before = set(self.graph.nodes)
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Unfollowed:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is that stand-ins cannot do
            # Taken as one step, it ends what is frozen; the model around it can still be followed.
            for node in reversed(self.graph.nodes):
                if node not in before:
                    self.graph.erase_node(node)
            self.unfollowed[place] = _said(m, error)
            return super().call_module(m, forward, args, kwargs)
        self.inner.append(m)
        return result


def _course(graph: fx.Graph, names: Sequence[str], constants: Mapping[str, Any], tracer: _Tracer) -> Course:
    """Read a graph, whose first nodes stand for the arguments by the names of the parameters."""
    arguments = [node for node in graph.nodes if node.op == "placeholder"]
    known = {node: Value(name) for node, name in zip(arguments, names, strict=True) if name not in constants}
    steps: list[Step] = []
    gives: Any = None
    for node in graph.nodes:
        # What a constant's stand-in goes into are torch.fx's own checks that it is what it was.
        if node.op == "placeholder" or not known.keys() >= set(node.all_input_nodes):
            continue
        args: Any = _pattern(node.args, known)
        if node.op == "output":
            gives = args[0]
            break
        kwargs = tuple((name, _pattern(value, known)) for name, value in node.kwargs.items())
        step = Step(f"{node.name}()", _OPS[node.op], node.target, args, kwargs)
        if node.users:
            steps.append(step)
        elif not may_be_dropped(step):
            raise Unfollowed(f"what {node.name}() gives is not used: it checks something, or writes to it")
        known[node] = Value(step.name)
    takes = tuple(name for name in names if name not in constants)
    return Course(takes, tuple(steps), gives, (*tracer.inner, tracer.root), tracer.unfollowed)


def _pattern(args: Any, known: Mapping[fx.Node, Value]) -> Any:
    """Give arguments of a node as nested plain values. Raises `Unfollowed` for others."""
    if isinstance(args, fx.Node):
        return known[args]
    inner: Any = args
    if isinstance(inner, (tuple, list)):
        kind: Any = tuple if isinstance(inner, tuple) else list
        return kind(_pattern(each, known) for each in cast("list[Any]", inner))
    if isinstance(inner, dict):
        return {name: _pattern(each, known) for name, each in cast("dict[Any, Any]", inner).items()}
    if isinstance(inner, slice):
        ends: Any = inner.start, inner.stop, inner.step
        return slice(*(_pattern(each, known) for each in ends))
    if isinstance(args, Tensor):
        raise Unfollowed("a tensor is made between modules")
    return args
