"""Formulas in LaTeX are read as a person reads them; code and prices are left alone."""

from __future__ import annotations

import pytest

from llasa_cli.text.latex import with_spoken_formulas


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (r"$a^2 + b^2 = c^2$", "a squared + b squared = c squared"),
        (r"$$\int_0^1 x^2 \, dx = \frac{1}{3}$$", "the integral from 0 to 1 of x squared dx = 1 over 3."),
        (r"\[ \sum_{i=1}^{n} i = \frac{n(n+1)}{2} \]", "the sum from i = 1 to n of i = n (n + 1) over 2."),
        (r"\( x \in \mathbb{R} \), $\alpha \le \beta_1$", "x in R, alpha is at most beta sub 1"),
        (r"$x_{ij}^{n+1}$, $\sqrt[3]{x+1}$", "x sub ij to the power of n + 1, the cube root of x + 1"),
        (r"$\lim_{x \to 0} \frac{\sin x}{x}$", "the limit as x to 0 of sine x over x"),
        (r"$90^\circ$, $A^T$, $A^{-1}$, $\hat{y}$", "90 degrees, A transpose, A inverse, y hat"),
        (r"$f'(x)$, $P(A \mid B)$, $O(n \log n)$", "f prime of x, P of A given B, O of n log n"),
        (r"$\frac12$, $x^{10}$, $x^23$", "1 over 2, x to the power of 10, x squared 3"),
        (r"$$\begin{aligned} a &= b \\ c &= d \end{aligned}$$", "a = b, c = d."),
        (r"$\text{if } x > 0$", "if x > 0"),
        (r"$\frac{a}{$, $\unknown{x}$, $\sqrt$", "a over, x, the square root of"),
        ("It costs $5 and $10, or $5-$10, not $3.50/$4.", None),
        ("`$x = 1$` and\n```\n$y = 2$\n```\n", None),
        (r"\$5 = \$5", None),
    ],
)
def test_formulas_are_read(written: str, said: str | None) -> None:
    assert with_spoken_formulas(written) == (written if said is None else said)


def test_a_long_hostile_formula_takes_no_time() -> None:
    for piece in ("$" * 3000, "\\(" * 3000, "$x^" * 2000, "`" * 3000, "$" + "{" * 490 + "=$", r"$\hat" * 900 + "=$"):
        with_spoken_formulas(piece)
    nested = "$" + "{" * 200 + "=$"
    assert with_spoken_formulas(nested) == nested
