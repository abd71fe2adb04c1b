"""Names and numbers of a field: the first wrong one is named, and what is close."""

import re

import pytest

from mtl_jax.options import (
    check_items,
    is_positive,
    is_whole,
    name_list,
    one_of,
    some_of,
)
from mtl_jax.types import InputError


@pytest.mark.parametrize(
    ("name", "known", "ending"),
    [
        ("pcgard", ["sum", "pcgrad"], "sum, pcgrad; did you mean 'pcgrad'?"),
        ("smiling", ["Male", "Smiling"], "Male, Smiling; did you mean 'Smiling'?"),
        ("transformer", ["cnn", "mlp"], "cnn, mlp."),
        (3, (0, 1, 2), "0, 1, 2."),
        ("x", (), "none."),
        (["sum"], {"sum": 1}, "sum; did you mean 'sum'?"),  # a list has no hash
    ],
)
def test_unknown_name(name, known, ending):
    with pytest.raises(InputError) as error:
        one_of("method", name, known)
    assert str(error.value) == f"method {name!r} is not one of: {ending}"


def test_known_name():
    assert one_of("method", "sum", {"sum": 1}) == "sum"
    assert some_of("method", "a,b", "abc") == ("a", "b")


@pytest.mark.parametrize(
    ("entries", "message"),
    [((1, "a"), "method 1 is no name"), (("a", "b, a"), "method 'a' is named twice")],
)
def test_names_that_are_none(entries, message):
    with pytest.raises(InputError, match=message):
        name_list("method", entries)


def test_text_alone_is_one_entry():
    assert name_list("method", "Male") == ("Male",)


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        ((1, 2.5, -1), {}, "(1, 2.5, -1); 2.5 is unfit: give sizes."),
        (("1,2,x",), {}, "('1,2,x',); 'x' is unfit: give sizes."),
        ((True,), {}, "(True,); True is unfit: give sizes."),
        ((2, 3, 2), {}, "(2, 3, 2); 2 is there twice: give sizes."),
        ((), {}, "(); give sizes."),
        ((0, 0), {"once": False}, "(0, 0); 0 is unfit: give sizes."),
    ],
)
def test_items_that_are_unfit(items, options, message):
    with pytest.raises(InputError, match=re.escape(f"widths are {message}")):
        check_items("widths", items, is_whole, "give sizes", **options)


def test_items_that_fit():
    check_items("widths", (3, 3), is_whole, "give sizes", once=False)
    check_items("widths", (), is_whole, "give sizes", empty=True)


@pytest.mark.parametrize("number", [0, -1.0, float("nan"), float("inf"), True, "1"])
def test_no_positive_number(number):
    assert not is_positive(number)
    assert is_positive(1e-9)
