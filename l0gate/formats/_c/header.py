"""The whole header: comment, types, arrays, functions, and a self test."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from l0gate._errors import check
from l0gate._quantize import quantized
from l0gate._saved_model import SavedModel
from l0gate.formats._c.arrays import LANES, c_array
from l0gate.formats._c.code import Code, code_of
from l0gate.formats.assembly import assembled
from l0gate.formats.format import Content
from l0gate.formats.layers import Embedding, Layer, input_size, output_size
from l0gate.formats.runner import run_net

__all__ = ["c_header", "check_name"]

# fmt: off
_KEYWORDS = {
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else",
    "enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "register",
    "restrict", "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef",
    "union", "unsigned", "void", "volatile", "while", "class", "namespace", "template",
    "typename", "new", "delete", "this", "using", "public", "private", "protected", "virtual",
    "operator", "friend", "try", "catch", "throw", "bool", "true", "false", "main",
}
# fmt: on
# tanh(x) = x P(x^2) / Q(x^2) for |x| <= 9, where it is 1 to float32; relative error 2.1e-8.
_P = (
    1.0,
    0.13381022214889526,
    0.003495583077892661,
    2.0608995328075252e-05,
    1.3354531702702843e-08,
)
_Q = (1.0, 0.46714335680007935, 0.025876963511109352, 0.0003285626298747957, 7.776507118251175e-07)
_TEST_STEPS = 32


def check_name(name: object) -> str:
    """The name that every identifier of the header begins with, checked."""
    valid = isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,60}", name) is not None
    check(
        valid and name not in _KEYWORDS,
        f"`name` is {name!r}; it must be an identifier of C: a letter, then letters, digits and _",
    )
    return str(name)


def c_header(content: Content, name: str, int8: bool, selftest: bool) -> bytes:
    """The bytes of the header. Raises `L0GateError` for what it cannot hold, NaN included."""
    layers = content.layers
    saved = assembled(layers)  # checks that all numbers are finite
    code = code_of(layers, name, int8)
    upper = name.upper()
    parts = [
        _comment(code, layers),
        f"#ifndef {upper}_H\n#define {upper}_H\n",
        "#include <math.h>\n" + ("#include <stdint.h>\n" if int8 else ""),
        _sizes(layers, upper),
        _state(code),
        *code.arrays,
        _activations(code, upper),
        *(_add(code, gates) for gates in sorted(code.products)),
        *code.functions,
        _public(code, layers),
        *([_selftest(code, layers, saved)] if selftest else []),
        f"#endif /* {upper}_H */",
    ]
    return ("\n".join(parts) + "\n").encode("ascii", "replace")


def _comment(code: Code, layers: Sequence[Layer]) -> str:
    p = code.prefix
    x = "token" if code.tokens else "x"
    return (
        "/* Written by l0gate. Plain C99 (also C++), no memory allocation, no state of its own.\n"
        " *\n"
        f" *   {p}_state s;\n"
        f" *   {p}_reset(&s);           before the first step\n"
        f" *   {p}_step(&s, {x}, y);     one time step; y[{p.upper()}_OUTPUTS]\n"
        f" *   {p}_process(&s, {x}, y, n);   n steps, one after the other\n"
        " *\n"
        " * Every file that includes this header gets a copy of the weights: include it in one.\n"
        f" * Define {p.upper()}_LIBM to take tanh and exp from the C library.\n"
        " * Compile with -O3 -ffast-math -march=native and -lm.\n"
        " */"
    )


def _sizes(layers: Sequence[Layer], upper: str) -> str:
    width = input_size(layers)
    given = f"#define {upper}_INPUTS {1 if width is None else width}\n"
    return given + f"#define {upper}_OUTPUTS {output_size(layers)}\n"


def _state(code: Code) -> str:
    members = [f"    float {member}[{size}];" for member, size in code.state]
    if not members:
        members = ["    float none[1];"]
    body = "\n".join(members)
    return f"typedef struct {{\n{body}\n}} {code.prefix}_state;\n"


def _polynomial(coefficients: Sequence[float]) -> str:
    text = ""
    for value in reversed(coefficients):
        digits = f"{value:.9g}"
        number = f"{digits}f" if "." in digits or "e" in digits else f"{digits}.0f"
        text = f"({text} * u + {number})" if text else number
    return text


def _activations(code: Code, upper: str) -> str:
    p = code.prefix
    return f"""static inline float {p}_tanh(float x)
{{
#ifdef {upper}_LIBM
    return tanhf(x);
#else
    const float v = x < -9.0f ? -9.0f : (x > 9.0f ? 9.0f : x);
    const float u = v * v;
    return v * {_polynomial(_P)} / {_polynomial(_Q)};
#endif
}}

static inline float {p}_sigmoid(float x)
{{
#ifdef {upper}_LIBM
    return 1.0f / (1.0f + expf(-x));
#else
    return 0.5f * {p}_tanh(0.5f * x) + 0.5f;
#endif
}}

static inline float {p}_clip(float x)
{{
    return x < 0.0f ? 0.0f : (x > 1.0f ? 1.0f : x);
}}
"""


def _add(code: Code, gates: int) -> str:
    """A function that adds a block of a matrix times a vector to the sums of its neurons.

    The sums of an LSTM's block are enough independent multiply-adds to keep a processor busy. Where
    there are fewer, four columns are added up first. In int8, gcc makes slower code of that.
    """
    size, columns = gates * LANES, 1 if gates == 4 or code.int8 else 4
    kind, cast = ("int8_t", "(float)") if code.int8 else ("float", "")
    scale = ", const float *scale" if code.int8 else ""
    start = "0.0f" if code.int8 else "sums[i]"
    end = "sums[i] += scale[i] * t[i]" if code.int8 else "sums[i] = t[i]"
    head = f"static inline void {code.prefix}_add{gates}("
    several = ""
    if columns > 1:
        values = ", ".join(f"v{j} = x[k + {j}]" for j in range(columns))
        products = [f"w[{f'{j * size} + ' if j else ''}i] * v{j}" for j in range(columns)]
        several = f"""    for (; k + {columns - 1} < n; k += {columns}) {{
        const float {values};
        for (i = 0; i < {size}; i++)
            t[i] += ({" + ".join(products[:2])}) + ({" + ".join(products[2:])});
        w += {columns * size};
    }}
"""
    return f"""{head}float *sums, const {kind} *w, const float *x, int n{scale})
{{
    float t[{size}];
    int i, k = 0;
    for (i = 0; i < {size}; i++) t[i] = {start};
{several}    for (; k < n; k++) {{
        const float v = x[k];
        for (i = 0; i < {size}; i++) t[i] += {cast}w[i] * v;
        w += {size};
    }}
    for (i = 0; i < {size}; i++) {end};
}}
"""


def _public(code: Code, layers: Sequence[Layer]) -> str:
    p, upper = code.prefix, code.prefix.upper()
    x = "int token" if code.tokens else "const float *x"
    xs = "const int *tokens" if code.tokens else "const float *x"
    next_x = "tokens[t]" if code.tokens else f"x + t * {upper}_INPUTS"
    resets = [
        f"    for (i = 0; i < {size}; i++) s->{member}[i] = 0.0f;" for member, size in code.state
    ] or ["    i = 0; s->none[i] = 0.0f;"]
    declared = [line for line in code.step if line.startswith("float ")]
    body = [line for line in code.step if not line.startswith("float ")]
    uses_b = any(" b++" in line for line in body)
    unused = [] if code.state else ["    (void)s;"]
    lines = "\n".join(
        f"    {line}" for line in [*declared, "int i;", *(["int b;"] if uses_b else []), *body]
    )
    extra = "\n".join(unused) + "\n" if unused else ""
    return f"""static inline void {p}_reset({p}_state *s)
{{
    int i;
{chr(10).join(resets)}
}}

static inline void {p}_step({p}_state *s, {x}, float *y)
{{
{lines}
{extra}}}

static inline void {p}_process({p}_state *s, {xs}, float *y, int count)
{{
    int t;
    for (t = 0; t < count; t++) {p}_step(s, {next_x}, y + t * {upper}_OUTPUTS);
}}
"""


def _selftest(code: Code, layers: Sequence[Layer], saved: SavedModel) -> str:
    """A program, behind a macro, that compares the outputs with those of the net in Python."""
    p, upper = code.prefix, code.prefix.upper()
    rng = np.random.default_rng(0)
    if code.int8:
        saved = quantized(saved)
    if isinstance(layers[0], Embedding):
        x: np.ndarray = rng.integers(0, len(layers[0].weight), _TEST_STEPS)
    else:
        x = rng.standard_normal((_TEST_STEPS, input_size(layers) or 1)).astype(np.float32)
    y = run_net(saved, x)
    kind = "int" if code.tokens else "float"
    arrays = c_array(kind, f"{p}_test_x", x) + "\n" + c_array("float", f"{p}_test_y", y)
    limit = max(1.0, float(np.abs(y).max())) * 1e-5
    return f"""#ifdef {upper}_SELFTEST
#include <stdio.h>
{arrays}
int main(void)
{{
    static {p}_state s;
    static float y[{y.size}];
    float worst = 0.0f;
    int i;
    {p}_reset(&s);
    {p}_process(&s, {p}_test_x, y, {_TEST_STEPS});
    for (i = 0; i < {y.size}; i++) {{
        const float d = fabsf(y[i] - {p}_test_y[i]);
        if (!(d <= worst)) worst = d;
    }}
    printf("{p}: largest difference %g, allowed %g\\n", (double)worst, {limit:.9g});
    return !(worst <= {limit:.9g}f);
}}
#endif
"""
