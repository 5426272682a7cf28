"""Reading a pickle without running it: a machine for the few instructions of which saved arrays are made.

Python's own unpickler calls whatever a file names. This one decodes instructions (`pickletools.genops`, which calls
nothing) and knows neither modules nor classes: a name stands for a function or a constant of ours that is listed for it
in a table, nothing but these functions is ever called, and their arguments are numbers, text, bytes, names, containers
of them, and what these functions returned.
"""

import abc
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

# A saved array takes fewer than 70 (measured with NumPy 2.4 and PyTorch 2.13); what takes far more is something else.
_MOST_INSTRUCTIONS = 1000

# The last two are text of Python 2, whose characters are bytes.
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class Refused(Exception):
    """Why a file is not read, as half a sentence to go after its name."""


class Buildable(abc.ABC):
    """What a function of a table returns where BUILD is to give it its state."""

    @abc.abstractmethod
    def build(self, state: Any) -> None:
        """Take the state over, or raise Refused."""


class Name:
    """An allowed name on the stack; what it means is called by REDUCE alone."""

    __slots__ = ("means",)

    def __init__(self, means: Any):
        """Stand for a function or constant of a table."""
        self.means = means


def unpickle(
    file: IO[bytes],
    names: Mapping[str, Any],
    persistent: Callable[[Any], Any] | None = None,
    *,
    most: int = _MOST_INSTRUCTIONS,
) -> Any:
    """The value of one pickle, of protocol 2 to 5; the file is left behind its last byte.

    Args:
        file: binary file.
        names: what each allowed `module.name` stands for: a function of ours, which REDUCE may call, or a constant.
        persistent: what a persistent id stands for; None if there must be none.
        most: instructions that it may have.

    Raises:
        Refused: it needs any other name or instruction, is damaged, or the functions refuse its arguments.
    """
    try:
        return _run(file, names, persistent, most)
    except Refused:
        raise
    # A damaged pickle makes the decoder, the stack and the functions raise nearly anything.
    except Exception as error:
        raise Refused("is no whole pickle (truncated or damaged?)") from error


def _run(file: IO[bytes], names: Mapping[str, Any], persistent: Callable[[Any], Any] | None, most: int) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def take(n: int) -> list[Any]:
        if n > len(stack):
            raise IndexError("stack underflow")
        taken = stack[len(stack) - n :]
        del stack[len(stack) - n :]
        return taken

    def take_to_mark() -> list[Any]:
        mark = max(i for i, value in enumerate(stack) if value is _MARK)
        return take(len(stack) - mark)[1:]

    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count == most:
            raise Refused("has more instructions than any array needs; nothing of it was run")
        instruction = opcode.name
        if instruction in _LITERALS:
            stack.append(argument)
        elif instruction in _CONSTANTS:
            stack.append(_CONSTANTS[instruction])
        elif instruction in _TUPLES:
            stack.append(tuple(take(_TUPLES[instruction])))
        else:
            match instruction:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    (value,) = stack
                    return value
                case "MARK":
                    stack.append(_MARK)
                case "TUPLE":
                    stack.append(tuple(take_to_mark()))
                case "EMPTY_LIST":
                    stack.append([])
                case "APPEND":
                    items = take(1)
                    _append_items(stack[-1], items)
                case "APPENDS":
                    items = take_to_mark()
                    _append_items(stack[-1], items)
                case "EMPTY_DICT":
                    stack.append({})
                case "SETITEM":
                    items = take(2)
                    _set_items(stack[-1], items)
                case "SETITEMS":
                    items = take_to_mark()
                    _set_items(stack[-1], items)
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "GLOBAL":
                    stack.append(_find(names, *argument.split(" ", 1)))
                case "STACK_GLOBAL":
                    stack.append(_find(names, *take(2)))
                case "REDUCE":
                    name, arguments = take(2)
                    if not (isinstance(name, Name) and callable(name.means) and type(arguments) is tuple):
                        raise Refused("calls what is no function of arrays; nothing of it was run")
                    stack.append(name.means(*arguments))
                case "BUILD":
                    (state,) = take(1)
                    if not isinstance(stack[-1], Buildable):
                        raise Refused("changes what is no array; nothing of it was run")
                    stack[-1].build(state)
                case "BINPERSID" if persistent is not None:
                    (identity,) = take(1)
                    stack.append(persistent(identity))
                case _:
                    raise Refused(
                        f"has the instruction {instruction}, which this form has no need of; nothing of it was run"
                    )
    raise EOFError("no STOP")


def _find(names: Mapping[str, Any], module: Any, name: Any) -> Name:
    full = f"{module}.{name}" if type(module) is str and type(name) is str else ""
    if full not in names:
        # The file's own words: cut off, and without line ends or control characters.
        raise Refused(f"asks for {full[:80]!r}, which this form has no need of; nothing of it was run")
    return Name(names[full])


def _append_items(values: Any, items: list[Any]) -> None:
    if type(values) is not list:
        raise TypeError("not a list")
    values.extend(items)


def _set_items(values: Any, items: list[Any]) -> None:
    # Text alone: a tuple of tuples of itself, n deep, would take 2 ** n steps to hash.
    if type(values) is not dict or not all(type(key) is str for key in items[::2]):
        raise TypeError("not a dict of names")
    values.update(zip(items[::2], items[1::2], strict=True))
