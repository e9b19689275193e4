"""The Berkeley Function Calling Leaderboard's verdict on a prediction (v4, the AST check for Python).

Scores are comparable with the leaderboard's only if this agrees with it case by case, its quirks included: greedy
matching without backtracking, an integer allowed for a float at the top level only, strings compared without case,
spaces and some punctuation. Each quirk is named where it lives. In a ground truth every argument holds the list of
values that are accepted; "" in that list means that the argument may be left out.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import re
from typing import Any, Optional

from edge.calls import Call, read_calls
from edge.errors import EdgeError

# BFCL writes Python's type names; JSON Schema's are taken as what they mean there. "any" is compared as a string.
_TYPES: dict[str, type] = {
    "string": str, "integer": int, "float": float, "number": float, "boolean": bool, "array": list, "tuple": list,
    "dict": dict, "object": dict, "any": str, "null": type(None),
}  # fmt: skip
_IGNORED = re.compile(r"[ ,./\-_*^]")

Functions = dict[str, dict[str, Any]]  # a function's parameters by its name


def check(prediction: Any, ground_truth: Any, functions: Any, category: Any) -> Optional[str]:
    """None if the prediction is right, else why not.

    Args:
        prediction: a list of calls, or anything: what is no list of calls is a wrong answer, not an error.
        ground_truth: calls whose arguments hold lists of accepted values; ignored for (ir)relevance.
        functions: the declarations, as BFCL writes them or in OpenAI's form.
        category: BFCL's, such as "simple_python" or "live_parallel_multiple"; it decides how calls are matched.

    Raises EdgeError if ground truth, functions or category can't be used.
    """
    kind, known = _kind_of(category), _functions(functions)
    expected = [] if "relevance" in kind else _ground_truth(ground_truth, known)
    try:
        predicted = read_calls(prediction)
    except EdgeError as why:
        return None if kind == "irrelevance" else why.message
    if kind == "irrelevance":
        return f"{len(predicted)} calls, expected none" if predicted else None
    if kind == "relevance":
        return None if predicted else "no call, expected at least one"
    if len(predicted) != len(expected):
        return f"{len(predicted)} calls, expected {len(expected)}"
    if kind == "parallel":
        return _match_any_order(predicted, expected, known)
    # The leaderboard looks at the first call only, whatever their number.
    return _check_call(predicted[0], expected[0], known[expected[0].name])


def _kind_of(category: Any) -> str:
    if not isinstance(category, str) or not category:
        raise EdgeError("the rule bfcl needs a category", 'such as "simple_python", "parallel" or "irrelevance"')
    if re.search("java|multi_turn|memory|web_search|sql|rest", category):
        raise EdgeError(f"category {category!r} is not one that the AST check for Python scores")
    kinds = ("irrelevance", "relevance", "parallel", "multiple")
    return next((kind for kind in kinds if kind in category), "simple")


def _functions(functions: Any) -> Functions:
    if not isinstance(functions, list) or not functions:
        raise EdgeError("the rule bfcl needs the function declarations", 'give them as a list under "functions"')
    return dict(_function(item, i) for i, item in enumerate(functions, 1))


def _function(item: Any, number: int) -> tuple[str, dict[str, Any]]:
    bare = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(bare, dict) or not isinstance(bare.get("name"), str):
        raise EdgeError(f"function {number} has no name")
    parameters = bare.get("parameters") or {}
    properties = parameters.get("properties") or {} if isinstance(parameters, dict) else None
    if not isinstance(properties, dict) or not all(isinstance(p, dict) for p in properties.values()):
        raise EdgeError(f"function {bare['name']}: its parameters are not a JSON Schema object")
    required = parameters.get("required") or []
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise EdgeError(f"function {bare['name']}: required is not a list of names")
    return bare["name"], {"properties": properties, "required": required}


def _ground_truth(value: Any, functions: Functions) -> list[Call]:
    try:
        calls = read_calls(value)
    except EdgeError as why:
        raise EdgeError(f"ground truth: {why.message}") from why
    if not calls:
        raise EdgeError("the ground truth holds no call")
    for call in calls:
        if call.name not in functions:
            raise EdgeError(f"ground truth: {call.name} is not among the functions")
        for name, accepted in call.arguments.items():
            if not isinstance(accepted, list):
                raise EdgeError(f"ground truth: {call.name}.{name} is not a list of accepted values")
    return calls


def _match_any_order(predicted: list[Call], expected: list[Call], functions: Functions) -> Optional[str]:
    """Each expected call takes the first call left that fits; a take is never given back."""
    left = list(predicted)
    for number, want in enumerate(expected, 1):
        reasons = [_check_call(got, want, functions[want.name]) for got in left]
        if None not in reasons:
            return f"no call fits expected call {number} ({want.name}): {'; '.join(map(str, reasons))}"
        del left[reasons.index(None)]
    return None


def _check_call(got: Call, want: Call, function: dict[str, Any]) -> Optional[str]:
    if got.name != want.name:
        return f"name {got.name!r}, expected {want.name!r}"
    properties = function["properties"]
    for name in function["required"]:
        if name not in got.arguments:
            return f"required argument {name!r} is missing"
    for name, value in got.arguments.items():
        if name not in properties or name not in want.arguments:
            return f"argument {name!r} is not expected"
        if not _fits(value, want.arguments[name], properties[name]):
            return f"argument {name!r} is {value!r}, accepted: {want.arguments[name]!r}"
    for name, accepted in want.arguments.items():
        if name not in got.arguments and "" not in accepted:
            return f"argument {name!r} is missing"
    return None


def _fits(value: Any, accepted: list[Any], schema: dict[str, Any]) -> bool:
    """Whether one argument's type is the declared one (or, failing that, the accepted one) and its value accepted."""
    expected = _type(schema)
    item = _type(schema["items"]) if expected is list and isinstance(schema.get("items"), dict) else None
    if expected is float and type(value) is int:  # only here: items of a list are not converted
        value = float(value)
    sample = _first_type(accepted)
    if type(value) is not expected:
        return type(value) is sample and value in accepted
    if item and not _items_fit(value, accepted, item):
        return False
    if sample not in (None, expected):  # the truth is of another type than declared: compared as it is
        return value in accepted
    return _equal(value, accepted, expected, item)


def _type(schema: dict[str, Any]) -> type:
    name = str(schema.get("type", "any")).lower()
    if name not in _TYPES:
        raise EdgeError(f"BFCL has no type {name!r}", f"use one of: {', '.join(_TYPES)}")
    return _TYPES[name]


def _first_type(accepted: Any) -> Optional[type]:
    return next((type(value) for value in accepted if value != ""), None)


def _items_fit(values: Any, accepted: list[Any], item: type) -> bool:
    """Whether all items are of the declared type or of the type of one accepted list's first item.

    An accepted value that is no list (such as "") lets every list through.
    """
    return any(
        not isinstance(choice, list) or all(type(v) in (item, _first_type(choice)) for v in values)
        for choice in accepted
    )


def _equal(value: Any, accepted: list[Any], expected: type, item: Optional[type]) -> bool:
    if expected is dict:
        return any(_dict_fits(value, choice) for choice in accepted)
    if expected is list and item is dict:
        return any(_dicts_fit(value, choice) for choice in accepted)
    if expected is list:
        return _plain_list(value) in [_plain_list(choice) for choice in accepted]
    return _plain(value) in [_plain(choice) for choice in accepted]


def _dict_fits(value: Any, choice: Any) -> bool:
    """One level: no further keys, each value among its key's accepted ones; "" among them lets the key be missing."""
    if not isinstance(value, dict) or not isinstance(choice, dict):
        return False
    if any(key not in choice or _plain(item) not in _plain_list(choice[key]) for key, item in value.items()):
        return False
    return all(key in value or "" in _sized(accepted) for key, accepted in choice.items())


def _dicts_fit(values: list[Any], choice: Any) -> bool:
    choices = _sized(choice)
    return len(values) == len(choices) and all(map(_dict_fits, values, choices))


def _plain_list(values: Any) -> list[Any]:
    return [_plain(value) for value in _sized(values)]


def _sized(values: Any) -> list[Any]:
    """A list as it is. A string counts as its characters, so that "" (may be left out) accepts an empty list too."""
    return list(values) if isinstance(values, (list, str)) else [values]


def _plain(value: Any) -> Any:
    """A string without case, spaces and some punctuation, with one kind of quote; anything else as it is."""
    return _IGNORED.sub("", value).lower().replace("'", '"') if isinstance(value, str) else value
