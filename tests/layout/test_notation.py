"""The axis notation: parsing, printing, and a caret under every fault."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import pattern_texts

from l0gate import L0GateError
from l0gate.layout.notation import Block, parse_pattern


@given(pattern_texts())
def test_one_spelling_parses_to_the_same_pattern(text: str) -> None:
    pattern = parse_pattern(text)
    assert parse_pattern(str(pattern)) == pattern
    assert str(parse_pattern(str(pattern))) == str(pattern)


@given(st.text(alphabet="hx_ ()+<->04²é\t\n", max_size=20) | st.text(max_size=20))
def test_any_text_parses_or_fails_cleanly(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except L0GateError as error:
        message, shown, caret = str(error).split("\n")
        assert message.startswith("`pattern`")
        # The caret stands under the pattern or just behind its end.
        assert len(caret.rstrip()) <= len(shown) + 1
    else:
        assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("(4 h)", (Block("h", 4),)),
        ("(h 4)", (Block("h", 1, 4),)),
        ("(2 h 3)", (Block("h", 2, 3),)),
        ("(f + b)", (Block("f"), Block("b"))),
        ("(2 (f + b))", (Block("f"), Block("b"), Block("f"), Block("b"))),
        ("((f + b) 2)", (Block("f", 1, 2), Block("b", 1, 2))),
        ("(v + 40 + 2)", (Block("v"), Block(None, 42))),
        ("(2 (h 3))", (Block("h", 2, 3),)),
        ("(2 3)", (Block(None, 6),)),
        ("(h 2 3)", (Block("h", 1, 6),)),
        ("((f + 2) 3)", (Block("f", 1, 3), Block(None, 6))),
        ("(9999 h)", (Block("h", 9999),)),
        ("(2048 (f + b))", (Block("f"), Block("b")) * 2048),
        ("(" * 32 + "h" + ")" * 32, (Block("h"),)),
        ("_", ()),
    ],
)
def test_blocks(text: str, blocks: tuple[Block, ...]) -> None:
    assert parse_pattern(text).dimensions[0].blocks == blocks


def test_the_in_side_follows_the_arrow() -> None:
    assert [d.reads for d in parse_pattern("h <- x _").dimensions] == [False, True, True]
    assert [d.reads for d in parse_pattern("x _ -> h").dimensions] == [True, True, False]
    assert [d.reads for d in parse_pattern("(4 h)").dimensions] == [False]


@pytest.mark.parametrize(
    ("text", "fault", "column"),
    [
        ("", "is empty", 0),
        ("h <-", "nothing after its arrow", 4),
        ("<- h", "nothing before its arrow", 0),
        ("a <- b <- c", "second arrow", 7),
        ("(4 h <- x", "not closed before `<-`", 5),
        ("(4 h", "not closed before the end", 4),
        ("h)", "has `)`", 1),
        ("(a b)", "product of two axes", 3),
        ("(a + )", "has `)` where an axis", 5),
        ("(_ + a)", "`_` inside", 1),
        ("h $", "'$'", 2),
        ("4.5 h", "'.'", 1),
        ("0", "size of 0", 0),
        ("h²", "not an identifier", 0),
        ("h - x", "'-'", 2),
        ("(" * 40, "parentheses inside each other", 32),
        ("(h) (h) " + "(" * 33, "parentheses inside each other", 40),
        ("(2049 (a + b))", "more than 4096 blocks", 13),
    ],
)
def test_faults_show_the_pattern_and_a_caret(text: str, fault: str, column: int) -> None:
    with pytest.raises(L0GateError) as caught:
        parse_pattern(text)
    message, shown, caret = str(caught.value).split("\n")
    assert fault in message
    assert shown == f"    {text}"
    assert caret == " " * (4 + column) + "^"


def test_parentheses_one_after_the_other_are_not_deep() -> None:
    assert len(parse_pattern("(h) " * 40 + "(" * 32 + "h" + ")" * 32).dimensions) == 41


def test_a_pattern_must_be_text() -> None:
    with pytest.raises(L0GateError, match="`pattern` is 3; it must be a string"):
        parse_pattern(3)  # type: ignore[arg-type]
