"""Writes pickles.json: pickles that Python's own `pickle` made, with what must become of each.

Run it as `python3 make.py > pickles.json`. The pickles are those of CPython 3.11.
"""

import collections
import datetime
import decimal
import json
import os
import pickle
import sys

TEXT = {"str": "", "ascii": "a\"b\\c/\n\r\t\b\f\0\x1a\x7f", "latin": "é ß ÿ",
        "wide": "żółw 東京 \u2028 \ud7ff \ue000 \uffff", "astral": "😀 \U0010ffff",
        "escapes": "\\u0041 \\U0001f600 \\ \\\\", "é": "a key", "": "no key at all",
        "long": "x" * 300, "longer": "ü" * 200}
NUMBERS = {"zero": 0, "one": 1, "minus": -1, "byte": 255, "more": 256, "word": 65535, "wide": 65536,
           "int": 2**31 - 1, "least int": -2**31, "beyond": 2**31, "below": -2**31 - 1,
           "exact": 2**53 + 1, "long": 2**63 - 1, "least": -2**63, "large": 2**63,
           "largest": 2**64 - 1, "127": 127, "128": 128, "-128": -128, "-129": -129}
FLOATS = {"zero": 0.0, "minus": -0.0, "one": 1.0, "half": 0.5, "tenth": 0.1, "least": 5e-324,
          "largest": 1.7976931348623157e308, "big": 1e16, "small": 1e-7, "third": 1 / 3,
          "hard": 2.2250738585072011e-308, "long": 123456789.123456789}
shared = ["shared", {"with": "members"}]
deep = {}
for _ in range(126):
    deep = {"a": deep}
tuple_deep = ()
for _ in range(125):
    tuple_deep = (tuple_deep,)

GOOD = {
    "empty": {},
    "a test of the tool": {"test": 1},
    "a login": {"username": "test1", "password": "pass321"},
    "texts": TEXT,
    "integers": NUMBERS,
    "floats": FLOATS,
    "constants": {"true": True, "false": False, "none": None},
    "lists": {"empty": [], "one": [1], "nested": [[], [[]], [1, [2, [3]]]]},
    "tuples": {"0": (), "1": (1,), "2": (1, 2), "3": (1, 2, 3), "4": (1, 2, 3, 4)},
    "dicts": {"empty": {}, "one": {"a": {}}, "two": {"a": {"b": {"c": 1}}, "d": {}}},
    "shared": {"a": shared, "b": shared, "c": [shared, shared], "shared": "shared"},
    "more than a batch": {"list": list(range(1_001)), **{str(n): n for n in range(1_001)}},
    "127 levels": deep,
    "127 levels of tuples": {"a": tuple_deep},
}


class Local:
    def __init__(self):
        self.x = 1


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


recursive_list = []
recursive_list.append(recursive_list)
recursive_dict = {}
recursive_dict["a"] = recursive_dict
recursive_tuple = ([],)
recursive_tuple[0].append(recursive_tuple)
too_deep = {"a": deep}
laugh = "ha" * 20
for _ in range(30):
    laugh = [laugh, laugh]

REFUSED = {
    "a list": ([1], "not_a_dict"),
    "a str": ("a", "not_a_dict"),
    "None": (None, "not_a_dict"),
    "bytes": ({"a": b"b"}, {0: "executes", 3: "bytes"}),
    "long bytes": ({"a": b"b" * 300}, {0: "executes", 3: "bytes"}),
    "a bytearray": ({"a": bytearray(b"b")}, {0: "executes", 5: "bytearray"}),
    "a set": ({"a": {1}}, {0: "executes", 4: "set"}),
    "a frozenset": ({"a": frozenset({1})}, {0: "executes", 4: "frozenset"}),
    "a complex": ({"a": 1j}, "executes"),
    "a date": ({"a": datetime.date(2026, 1, 1)}, "executes"),
    "a decimal": ({"a": decimal.Decimal(1)}, "executes"),
    "a range": ({"a": range(3)}, "executes"),
    "a type": ({"a": int}, "executes"),
    "a function": ({"a": len}, "executes"),
    "an object": ({"a": Local()}, "executes"),
    "an ordered dict": (collections.OrderedDict(a=1), "executes"),
    "os.system": ({"a": Calls(os.system, "touch /tmp/web-ipc-was-here")}, "executes"),
    "os.system alone": (Calls(os.system, "touch /tmp/web-ipc-was-here"), "executes"),
    "eval": ({"a": Calls(eval, "1+1")}, "executes"),
    "a key of int": ({1: "a"}, "key"),
    "a key of None": ({None: "a"}, "key"),
    "a key of tuple": ({("a",): "a"}, "key"),
    "a key of bool": ({"a": {True: 1}}, "key"),
    "an int beyond": ({"a": 2**64}, "large_int"),
    "an int below": ({"a": -2**63 - 1}, "large_int"),
    "a huge int": ({"a": 1 << 4000}, "large_int"),
    "a huge negative int": ({"a": -(1 << 4000)}, "large_int"),
    "nan": ({"a": float("nan")}, "not_finite"),
    "inf": ({"a": float("inf")}, "not_finite"),
    "minus inf": ({"a": float("-inf")}, "not_finite"),
    "half a surrogate pair": ({"a": "\ud800"}, "lone_surrogate"),
    "the other half": ({"\udfff": "a"}, "lone_surrogate"),
    "a list in itself": ({"a": recursive_list}, "recursive"),
    "a dict in itself": (recursive_dict, "recursive"),
    "a tuple in itself": ({"a": recursive_tuple}, "recursive"),
    "128 levels": (too_deep, "too_deep"),
    "a billion laughs": ({"a": laugh}, "too_long"),
}

vectors = []
sys.setrecursionlimit(5_000)
for name, value in GOOD.items():
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for protocol in range(6):
        made = pickle.dumps(value, protocol)
        vectors.append({"name": name, "protocol": protocol, "pickle": made.hex(), "json": text})
for name, (value, why) in REFUSED.items():
    for protocol in range(6):
        reason = why if isinstance(why, str) else why[max(n for n in why if n <= protocol)]
        made = pickle.dumps(value, protocol)
        vectors.append({"name": name, "protocol": protocol, "pickle": made.hex(), "refused": reason})
print("[")
print(",\n".join(json.dumps(vector) for vector in vectors))
print("]")
