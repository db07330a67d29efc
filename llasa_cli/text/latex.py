"""Formulas in LaTeX -> words: $\\frac{a}{b} \\le x^2$ -> a over b is at most x squared.

Language models write formulas so, between $ and $, $$ and $$, \\( and \\), or \\[ and \\]. What is read:

    \\frac{a}{b}, \\sqrt{x}, \\sqrt[3]{x}    a over b, the square root of x, the root of order 3 of x
    x^2, x^{n+1}, x_i                      x squared, x to the power of n+1, x sub i
    \\sum_{i=1}^n, \\int_0^1, \\lim_{x \\to 0}  the sum from i=1 to n of, the integral from 0 to 1 of, the limit as x to 0 of
    \\alpha, \\times, \\le, \\sin ...          alpha, times, is at most, sine
    \\text{where}, \\mathbf{x}, \\hat{x}      where, x, x hat

Other commands are left out and their arguments are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llasa_cli.text.normalize.vocabulary import word_table
from llasa_cli.text.sentences import ended

_CODE = r"(?P<code>(?m:^ {0,3}(?P<fence>`{3,}|~{3,})[^\n]*\n(?s:.*?)(?:^ {0,3}(?P=fence)|\Z))|(?P<tick>`+)(?s:.+?)(?P=tick))"
_FORMULA = re.compile(
    rf"{_CODE}|\\\((?P<round>(?s:.{{1,2000}}?))\\\)|\\\[(?P<square>(?s:.{{1,4000}}?))\\\]"
    r"|\$\$(?P<display>[^$]{1,4000})\$\$"
    r"|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]{0,500}[^\s$\\])?)\$(?![\d$])"
)
_MATHEMATICAL = re.compile(r"[\\^_=<>]|\A[A-Za-z]['′]?(?:\([a-z]\))?\Z|\A\d*[a-z]?\s?[-+*/]\s?\d*[a-z]?\Z")
"""A pattern that formulas between single dollar signs match, and pairs of prices do not."""
_TOKEN = re.compile(
    r"\\(?P<command>[A-Za-z]+)\*?|\\(?P<sign>.)|(?P<other>[{}^_]|[A-Za-z]+|\d+(?:[.,]\d+)*|\s+|.)", re.DOTALL
)


_COMMANDS = word_table(
    "times times,cdot times,ast times,div divided by,pm plus or minus,mp minus or plus,le is at most,leq is at most,leqslant is at most,"
    "ge is at least,geq is at least,geqslant is at least,lt is less than,gt is greater than,ne is not,neq is not,equiv is equivalent to,"
    "approx is about,sim is about,simeq is about,cong is congruent to,propto is proportional to,ll is much less than,"
    "gg is much greater than,infty infinity,partial partial,nabla del,to to,rightarrow to,longrightarrow to,mapsto maps to,gets from,"
    "leftarrow from,Rightarrow implies,implies implies,Leftrightarrow if and only if,iff if and only if,in in,notin not in,ni contains,"
    "subset is a subset of,subseteq is a subset of,supset contains,cup union,cap intersection,setminus without,emptyset the empty set,"
    "varnothing the empty set,forall for all,exists there exists,neg not,land and,wedge and,lor or,vee or,therefore therefore,"
    "because because,ldots and so on,cdots and so on,dots and so on,vdots and so on,prime prime,circ degrees,degree degrees,mid given,"
    "parallel is parallel to,perp is perpendicular to,angle angle,sin sine,cos cosine,tan tangent,cot cotangent,sec secant,csc cosecant,"
    "arcsin arc sine,arccos arc cosine,arctan arc tangent,sinh hyperbolic sine,cosh hyperbolic cosine,tanh hyperbolic tangent,"
    "log log,ln natural log,lg log,exp exponential,max maximum,min minimum,sup supremum,inf infimum,det determinant,dim dimension,"
    "gcd greatest common divisor,mod modulo,bmod modulo,pmod modulo,Pr probability,arg argument,hbar h bar,ell l,Re real part of,"
    "Im imaginary part of,varepsilon epsilon,vartheta theta,varphi phi,varrho rho,varsigma sigma,quad ,qquad "
)
_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi psi omega".split()
)
_ACCENTS = word_table(
    "hat hat,widehat hat,bar bar,overline bar,tilde tilde,widetilde tilde,vec vector,dot dot,ddot double dot,underline "
)
_SIGNS = {"%": "percent", "&": "and", "#": "number", "$": "$", "\\": ",", "|": " ", "{": "{", "}": "}", "_": " "}
_WITH_BOUNDS = {
    "sum": ("the sum", "from"),
    "prod": ("the product", "from"),
    "int": ("the integral", "from"),
    "iint": ("the double integral", "over"),
    "oint": ("the closed integral", "over"),
    "bigcup": ("the union", "from"),
    "bigcap": ("the intersection", "from"),
    "lim": ("the limit", "as"),
}
DEEPEST = 30
"""The greatest nesting of a formula that is read."""
_POWERS = {"2": "squared", "3": "cubed", "degrees": "degrees", "prime": "prime", "T": "transpose", "-1": "inverse"}
"""Powers that are not read as such."""
_FUNCTION = re.compile(r"\b(?P<name>[fghFGHPO](?: prime| sub \w+)?) ?\( ?(?P<of>[^()]*?) ?\)")


_TEXT_COMMAND = re.compile(
    r"[~ ]?\\(?:[cC]ite[a-z]*|(?:eq|auto|c|page)?ref|label|begin|end|includegraphics|[vh]space|bibliography(?:style)?|usepackage)\*?(?:\[[^\]\n]{0,200}\]){0,3}\{[^{}\n]{0,300}\}"
    r"|\\(?:(?:sub){0,2}section|chapter|paragraph|title|caption)\*?\{(?P<title>[^{}\n]{0,300})\}"
    r"|\\(?:text(?:bf|it|tt|sc|sf|rm)|emph|underline|mbox)\{(?P<words>[^{}]{0,1000})\}|(?P<item>^[ \t]*\\item\b)|(?<=\w)\\(?P<sign>[%&#])",
    re.MULTILINE,
)
"""Commands of LaTeX in prose: of some only the argument is read, others are left out."""


def with_plain_commands(source: str) -> str:
    r"""\emph{See} Table~\ref{tab} -> See Table."""
    if "\\" not in source:
        return source
    for _ in range(3):  # nested commands
        source = _TEXT_COMMAND.sub(_plain_command, source)
    return source


def _plain_command(found: re.Match[str]) -> str:
    if found["title"] is not None:
        return f"{ended(found['title'])}\n" if found["title"].strip() else ""
    return found["words"] or found["sign"] or ("-" if found["item"] else "")


def with_spoken_formulas(source: str) -> str:
    """Replace the formulas in a Markdown text by words. Code, and amounts of money such as "$5 to $10", stay as they are."""
    if "$" not in source and "\\(" not in source and "\\[" not in source:
        return source
    return _FORMULA.sub(_spoken, source)


def _spoken(found: re.Match[str]) -> str:
    inline = found["inline"]
    if found["code"] is not None or (inline is not None and not _MATHEMATICAL.search(inline)):
        return found[0]
    display = found["display"] or found["square"]
    try:
        words = read_formula(display or inline or found["round"])
    except ValueError:
        return found[0]
    return f"{words}." if display and not words.endswith((".", ",", "?", "!", ";")) else words


def read_formula(source: str) -> str:
    """LaTeX without the signs around it -> words.

    Raises:
        ValueError: It is nested more than DEEPEST times.
    """
    tokens = _Tokens(source)
    words = " ".join(tokens.words())
    words = _FUNCTION.sub(r"\g<name> of \g<of>", re.sub(r"\s+", " ", words))
    words = re.sub(r" (?=[,.;:!?)\]'’])|(?<=[(\[]) ", "", words)
    return words.strip(" ,")


class _Tokens:
    """Reads a formula from left to right."""

    def __init__(self, source: str) -> None:
        self._tokens = [match[0] for match in _TOKEN.finditer(source)]
        self._at = self._depth = 0

    def words(self, end: str | None = None) -> Iterator[str]:
        """The words up to the token `end`, which is consumed, or to the end of the formula."""
        while (token := self._next()) is not None and token != end:
            yield from self._read(token)

    def _read(self, token: str) -> Iterator[str]:
        if self._depth > DEEPEST:
            raise ValueError("the formula is nested too deep")
        self._depth += 1
        yield from self._read_nested(token)
        self._depth -= 1

    def _read_nested(self, token: str) -> Iterator[str]:
        if token == "{":
            yield from self.words("}")
        elif token == "^":
            yield self._power()
        elif token == "_":
            yield f"sub {self._argument()}"
        elif token[0] != "\\":
            yield {"}": "", "&": "", "~": "", "'": "prime", "|": ""}.get(token, token)
        elif len(token) > 1 and token[1].isalpha():
            yield from self._command(token[1:].rstrip("*"))
        else:
            yield _SIGNS.get(token[1:], "")

    def _command(self, name: str) -> Iterator[str]:
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            yield f"{self._argument()} over {self._argument()}"
        elif name in ("binom", "dbinom", "tbinom"):
            yield f"{self._argument()} choose {self._argument()}"
        elif name == "sqrt":
            order = " ".join(self.words("]")).strip() if self._takes("[") else ""
            root = {"": "square root", "2": "square root", "3": "cube root"}.get(order, f"root of order {order}")
            yield f"the {root} of {self._argument()}"
        elif name in _WITH_BOUNDS:
            yield self._bounded(*_WITH_BOUNDS[name])
        elif name in _ACCENTS:
            yield f"{self._argument()} {_ACCENTS[name]}"
        elif name in ("begin", "end", "label", "tag", "color", "hspace", "vspace"):
            self._argument()
        elif name.lower() in _GREEK:
            yield name.lower()
        else:
            yield _COMMANDS.get(name, "")

    def _bounded(self, name: str, preposition: str) -> str:
        """the sum from i=1 to n of"""
        bounds = {}
        while (sign := self._takes("_", "^")) is not None and sign not in bounds:
            bounds[sign] = self._argument()
        if "_" in bounds:
            name += f" {preposition} {bounds['_']}"
        if "^" in bounds:
            name += f" to {bounds['^']}"
        return f"{name} of"

    def _power(self) -> str:
        power = self._argument()
        return _POWERS.get(power.replace(" ", ""), f"to the power of {power}")

    def _argument(self) -> str:
        """The next group, command, letter or digit, in words."""
        while self._takes(" ") is not None:
            pass
        token = self._next()
        if token is None:
            return ""
        if token[0] not in "\\{" and len(token) > 1:  # x^23 is x squared and 3, x^ab is x to the a, times b
            self._at -= 1
            self._tokens[self._at] = token[1:]
            return token[0]
        return " ".join(" ".join(self._read(token)).split())

    def _takes(self, *tokens: str) -> str | None:
        """Consume the next token if it is one of these; " " stands for any blank."""
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        if token is None or (token not in tokens and not (" " in tokens and token.isspace())):
            return None
        self._at += 1
        return token

    def _next(self) -> str | None:
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        self._at += 1
        return token
