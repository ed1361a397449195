"""The pattern language of `convnet`: `INPUT -> [[CONV -> RELU]*2 -> POOL]*3 -> [FC -> RELU]*1 -> FC`.

    pattern = step ("->" step)*
    step    = NAME | "[" pattern "]" ("*" COUNT)?
    NAME    = INPUT | CONV | RELU | POOL | FC

Reads the text into a flat list of layers and checks their order. Knows no sizes and no torch.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from models.errors import InvalidArchitecture

NAMES = ("INPUT", "CONV", "RELU", "POOL", "FC")
# What may follow what; a pattern begins with INPUT and ends with FC.
FOLLOWS = {
    "INPUT": ("CONV", "POOL", "FC"),
    "CONV": ("CONV", "RELU", "POOL", "FC"),
    "RELU": ("CONV", "POOL", "FC"),
    "POOL": ("CONV", "POOL", "FC"),
    "FC": ("FC", "RELU"),
}
MAX_CHARACTERS = 2_000
MAX_LAYERS = 300
MAX_DEPTH = 20
SHOWN = 70

TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_?]+)|(?P<count>\d+)|(?P<symbol>->|→|\[|\]|\*)|(?P<other>\S))")


@dataclass(frozen=True)
class Token:
    text: str
    position: int


@dataclass(frozen=True)
class Step:
    """One layer of the network. `position` is where its name stands in the pattern, counted from 0.

    `number` counts the layers of that name from 1, after repetition.
    """

    name: str
    position: int
    number: int = 0

    def __str__(self) -> str:
        return f"{self.name} {self.number}"


def parse(pattern: str) -> list[Step]:
    """The layers in order, repetition written out. Raises InvalidArchitecture with the place of the fault."""
    if len(pattern) > MAX_CHARACTERS:
        raise InvalidArchitecture(f"the pattern has {len(pattern)} characters, at most {MAX_CHARACTERS} are read")
    steps = _Reader(pattern).read()
    _check_order(pattern, steps)
    counts = dict.fromkeys(NAMES, 0)
    numbered = []
    for step in steps:
        counts[step.name] += 1
        numbered.append(Step(step.name, step.position, counts[step.name]))
    return numbered


def fault(pattern: str, position: int, message: str) -> InvalidArchitecture:
    """An error that shows the place in the pattern and what stands around it."""
    start = max(0, position - SHOWN)
    shown = pattern[start : position + SHOWN].replace("\n", " ").replace("\t", " ")
    return InvalidArchitecture(
        f"{message}, at character {position + 1}:\n  {shown}\n  {' ' * (position - start)}^"
    )


class _Reader:
    """Recursive descent over the tokens, one method to a rule."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.tokens = list(_tokens(pattern))
        self.next = 0
        self.depth = 0

    def read(self) -> list[Step]:
        steps = self.sequence()
        if (token := self.peek()) is not None:
            raise fault(self.pattern, token.position, f"expected -> or the end, found {token.text!r}")
        return steps

    def sequence(self) -> list[Step]:
        steps = self.step()
        while (token := self.peek()) is not None and token.text in ("->", "→"):
            self.next += 1
            steps = steps + self.step()
            self.check_length(len(steps), token)
        return steps

    def step(self) -> list[Step]:
        token = self.take("a layer or [")
        if token.text == "[":
            return self.group(token)
        if token.text in NAMES:
            return [Step(token.text, token.position)]
        if token.text.endswith("?"):
            name = token.text.rstrip("?")
            raise fault(
                self.pattern, token.position, f"{token.text} leaves it open: write {name}, or leave it out"
            )
        raise fault(self.pattern, token.position, f"expected {', '.join(NAMES)} or [, found {token.text!r}")

    def group(self, opening: Token) -> list[Step]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise fault(self.pattern, opening.position, f"more than {MAX_DEPTH} brackets inside each other")
        steps = self.sequence()
        self.depth -= 1
        closing = self.take("]", opening)
        if closing.text != "]":
            raise fault(self.pattern, closing.position, f"expected -> or ], found {closing.text!r}")
        token = self.peek()
        if token is None or token.text != "*":
            return steps
        self.next += 1
        count = self.take("how many times")
        if not count.text.isdigit():
            raise fault(self.pattern, count.position, f"expected a number after *, found {count.text!r}")
        # The digits are counted before they are read: a number may be as long as the pattern.
        times = int(count.text) if len(count.text) < 6 else MAX_LAYERS + 1
        self.check_length(len(steps) * times, count)
        return steps * times

    def peek(self) -> Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def take(self, wanted: str, opening: Token | None = None) -> Token:
        token = self.peek()
        if token is None:
            end = len(self.pattern.rstrip())
            since = f" for the [ at character {opening.position + 1}" if opening else ""
            raise fault(self.pattern, end, f"the pattern ends where {wanted} is expected{since}")
        self.next += 1
        return token

    def check_length(self, layers: int, token: Token) -> None:
        if layers > MAX_LAYERS:
            raise fault(self.pattern, token.position, f"more than {MAX_LAYERS} layers")


def _tokens(pattern: str) -> Iterator[Token]:
    position = 0
    while match := TOKEN.match(pattern, position):
        kind = match.lastgroup or "other"
        position = match.end()
        if kind == "other":
            raise fault(pattern, match.start(kind), f"{match.group(kind)!r} has no meaning in a pattern")
        text = match.group(kind)
        yield Token(text.upper() if kind == "name" else text, match.start(kind))


def _check_order(pattern: str, steps: list[Step]) -> None:
    if not steps or steps[0].name != "INPUT":
        raise fault(pattern, steps[0].position if steps else 0, "a pattern begins with INPUT")
    for before, step in itertools.pairwise(steps):
        if step.name not in FOLLOWS[before.name]:
            allowed = ", ".join(FOLLOWS[before.name])
            raise fault(
                pattern, step.position, f"{step.name} cannot follow {before.name}, which is followed by {allowed}"
            )
    if steps[-1].name != "FC":
        raise fault(pattern, steps[-1].position, f"a pattern ends with FC, the class scores, not {steps[-1].name}")
