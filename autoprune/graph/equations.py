"""Einstein's notation, as far as a product with a weight is written in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinearMap:
    """Which of the two operands is the weight, and whether it holds its inputs before its outputs."""

    weight: int
    inputs_first: bool


def parsed(equation: str) -> tuple[list[str], str]:
    """Letters of the operands, and of the result."""
    left, _, output = equation.replace(" ", "").partition("->")
    return left.split(","), output


def linear_map(equation: str) -> LinearMap | None:
    """What an equation such as 'bti,oi->bto' says: a linear map over the last dimension of one operand."""
    operands, output = parsed(equation)
    if len(operands) != 2:
        return None
    for place in (1, 0):
        weight, other = operands[place], operands[1 - place]
        if len(weight) == 2 and other and other[-1] in weight:
            made = weight.replace(other[-1], "", 1)
            if made not in other and output == other[:-1] + made:
                return LinearMap(place, weight[0] == other[-1])
    return None
