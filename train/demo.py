"""The demo project: a coffee machine's tools, and rows to tune and to test with.

The embedded base model never met these tools. Training and evaluation rows come from one small grammar, but no user
text is in both (a checksum of the text decides), the words in evaluation values are held out, and half of the
evaluation rows use phrasings that training doesn't.

Standard library only.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from typing import Any

from edge.train.generator import REFUSAL, SENTENCE
from edge.train.phrases import Slot, draw
from edge.train.values import NUMBER_WORDS, Values, listed, side

Json = dict[str, Any]

PARALLEL, NONE = 0.15, 0.05

_SOURCE = '''"""What the coffee machine can do. `edge` reads signatures and docstrings; it calls nothing here."""

from typing import Literal, Optional


def brew(drink: Literal["latte", "mocha", "flat_white"], cups: int, name: Optional[str] = None):
    """Makes coffee.

    Args:
        drink: The kind.
        cups: How many.
        name: For whom.
    """


def grind(grams: float, fine: bool = False):
    """Grinds beans.

    Args:
        grams: How many.
        fine: Finely.
    """


def heat(degrees: int):
    """Heats the water.

    Args:
        degrees: To what.
    """


def buy(origin: str):
    """Buys beans.

    Args:
        origin: Where from.
    """


def keep(title: str, steps: list[str]):
    """Keeps a recipe.

    Args:
        title: The name.
        steps: In order.
    """
'''

# For each tool: phrasings for training, phrasings for testing only.
_ASK = {
    "brew": (
        [
            "(make|brew|prepare|pour) [me|us] {cups} {drink}",
            "[I want|I'd like|we need] {cups} {drink}[, please]",
            "{cups} {drink} (please|now|to go)",
            "(can I|could we) (have|get) {cups} {drink}",
            "get {cups} {drink} (going|ready)",
            "(let's have|bring me|give us) {cups} {drink}",
            "(start|do) {cups} {drink}[, please]",
            "I'm (thirsty|dying) for {cups} {drink}",
            "{cups} {drink} (sounds good|will do|and quick)",
            "is it too late for {cups} {drink}",
        ],
        [
            "{cups} {drink} would be (nice|lovely|great)",
            "(time for|I could use) {cups} {drink}",
            "how about {cups} {drink}",
        ],
    ),
    "grind": (
        [
            "grind [me] {grams} (grams|g) [of beans|of coffee]{fine}",
            "(I need|give me) {grams} (grams|g) [of] ground [coffee]{fine}",
            "{grams} (grams|g) [of beans] through the grinder{fine}",
            "(put|run) {grams} (grams|g) [of beans] through the (mill|grinder){fine}",
            "{grams} (grams|g) [of beans|of coffee] ground{fine}",
            "(weigh out and|please) grind {grams} (grams|g){fine}",
            "(have|get) {grams} (grams|g) [of coffee] ground{fine}",
            "the grinder can take {grams} (grams|g){fine}",
            "I (want|need) {grams} (grams|g) of beans ground{fine}",
        ],
        ["mill {grams} (grams|g) [of beans]{fine}", "let the grinder do {grams} (grams|g){fine}"],
    ),
    "heat": (
        [
            "(set|bring|heat) the (boiler|water|machine) to {degrees} [degrees]",
            "(boiler|water) (at|to) {degrees} [degrees]",
            "(heat|warm) [the water] up to {degrees} [degrees]",
            "I want the (boiler|water) at {degrees} [degrees]",
            "make the water {degrees} degrees [hot]",
            "(turn|take) the (boiler|water) (up|down) to {degrees} [degrees]",
            "I (want|need) {degrees} degrees [in the boiler]",
            "let the (water|boiler) reach {degrees} [degrees]",
            "get the (boiler|water) to {degrees} [degrees]",
            "{degrees} degrees[ is right|, please]",
        ],
        ["the boiler should be at {degrees} [degrees]", "{degrees} degrees for the (boiler|water)"],
    ),
    "buy": (
        [
            "(buy|order|get) [some|more] [coffee] beans from {origin}",
            "we('re out of| need) beans from {origin}",
            "(buy|order) [some|more] {origin} beans",
            "(order|restock) the {origin} [coffee] beans",
            "we ran out of {origin} beans",
            "the beans from {origin} are (gone|finished)",
            "(add|send for) {origin} beans",
            "beans from {origin}, please",
            "I'd like (to try|more of) the beans from {origin}",
        ],
        ["we should stock up on beans from {origin}", "put {origin} beans on the list"],
    ),
    "keep": (
        [
            "(save|keep|store) [a|the|my] recipe [called|named] {title}: {steps}",
            "(save|keep) {steps} as [the recipe] {title}",
            "new recipe {title}[, steps|:] {steps}",
            "remember [the recipe] {title}: {steps}",
            "note [the recipe] {title}: {steps}",
            "(add|save) {title} to my recipes: {steps}",
            "for {title} (you|we) {steps}",
            "the recipe (of|for) {title} is {steps}",
            "(file|record) {steps} under {title}",
            "{title} is (easy|simple): {steps}",
            "the new {title} (takes|needs|is) {steps}",
        ],
        ["write down {title} for me: {steps}", "my new recipe {title} goes {steps}"],
    ),
}
_NAMED = [
    " for {name}",
    ", name {name}",
    " with the name {name}",
    ", write {name} on it",
    ", it's for {name}",
    ", {name} is waiting",
    ", {name} asked for it",
    " and call {name}",
    " under the name {name}",
]
_NAMED_HELD = [" and put {name} on the cup", ", {name} will pick it up"]
_FINE = {
    True: [" finely", ", fine", " and make it fine", ", fine please"],
    False: [" coarsely", ", coarse", ", not too fine"],
}
_JOIN = [" and ", " and then ", ". Also, ", ", then ", ". After that "]
_ASTRAY = [
    "(call|phone|ring) {name}",
    "what's the weather in {origin}",
    "play some jazz",
    "(open|lock) the door",
    "tell me a joke",
    "(send|write) a mail to {name}",
    "how old are you",
    "turn on the lights",
    "who is {name}",
    "(find|show) {origin} on the map",
    "wash the (cups|car)",
    "set an alarm for {cups}",
    "translate {title}",
    "is {origin} nice in winter",
]
_STEPS = listed("""grind|tamp|rinse the filter|pour|wait|stir|bloom|steam the milk|add sugar|serve|heat the cup|mix|
rest|add ice|dust with cocoa|weigh|drain|level the bed|add vanilla|shake|strain|fold in cream|taste|let it drip|
flush the head|warm the milk|add cinnamon|chill""")
_DRINKS = {"latte": "lattes", "mocha": "mochas", "flat_white": "flat whites"}  # and how one says several


def tools_source() -> str:
    """The text of the project's tools.py."""
    return _SOURCE


def rows(split: str, count: int, seed: int = 0) -> Iterator[Json]:
    """`count` different rows without a "tools" key: the project's tools apply.

    split: "train"; or with values that training never has "values" (in its phrasings), "phrasings" (in others), "eval" (half each).
    """
    rng = random.Random(f"{split} {seed}")
    given: set[str] = set()
    while len(given) < count:
        text, answer = _row(rng, split)
        if side(text) == ("train" if split == "train" else "test") and text not in given:
            given.add(text)
            messages: list[Json] = [
                {"role": "developer", "content": SENTENCE},
                {"role": "user", "content": text},
                answer,
            ]
            yield {"messages": messages}


def _row(rng: random.Random, split: str) -> tuple[str, Json]:
    held = split == "phrasings" or (split == "eval" and rng.random() < 0.5)
    values = Values(rng, "train" if split == "train" else "test", dt.datetime(2026, 1, 1))
    if rng.random() < NONE:
        text = _said(rng.choice(_ASTRAY), {k: _value(k, values)[0] for k in ("name", "origin", "title", "cups")}, rng)
        return _tidy(text, rng), {"role": "assistant", "content": REFUSAL["en"]}
    many = rng.random() < PARALLEL
    tools = rng.sample(sorted(_ASK), 2 if many else 1)
    asked = [_ask(tool, values, held) for tool in tools]
    text = rng.choice(_JOIN).join(text for text, _ in asked)
    calls = [
        {"type": "function", "function": {"name": tool, "arguments": arguments}}
        for tool, (_, arguments) in zip(tools, asked)
    ]
    return _tidy(text, rng), {"role": "assistant", "tool_calls": calls}


def _ask(tool: str, values: Values, held: bool) -> tuple[str, Json]:
    """One request and its arguments."""
    rng = values.rng
    pattern = rng.choice(_ASK[tool][held])
    if tool == "brew" and rng.random() < 0.4:
        pattern += rng.choice(_NAMED_HELD if held and rng.random() < 0.5 else _NAMED)
    fine = rng.choice([True, True, False, None, None])
    pattern = pattern.replace("{fine}", rng.choice(_FINE.get(fine, [""])))
    keys = [str(p) for p in draw(random.Random(0), pattern) if isinstance(p, Slot)]
    drawn = {key: _value(key, values) for key in keys}
    arguments = {key: value for key, (_, value) in drawn.items()}
    said = {key: text for key, (text, _) in drawn.items()}
    if tool == "brew":
        said["drink"] = _DRINKS[arguments["drink"]] if arguments["cups"] > 1 else arguments["drink"].replace("_", " ")
    if tool == "grind" and fine is not None:
        arguments["fine"] = fine
    return _said(pattern, said, rng), arguments


def _value(key: str, values: Values) -> tuple[str, Any]:
    rng = values.rng
    if key == "cups":
        n = rng.randint(1, 9)
        return ("a" if n == 1 and rng.random() < 0.7 else NUMBER_WORDS[n] if rng.random() < 0.4 else str(n)), n
    if key == "steps":
        steps = rng.sample(_STEPS, rng.randint(2, 3))
        return ", ".join(steps[:-1]) + rng.choice([", ", " and "]) + steps[-1], steps
    kinds = {"grams": "float:6:60", "degrees": "int:70:130", "name": "first", "origin": "city", "title": "song"}
    if key in kinds:
        return values.say(kinds[key])
    drink = rng.choice(sorted(_DRINKS))
    return drink.replace("_", " "), drink


def _said(pattern: str, said: dict[str, str], rng: random.Random) -> str:
    text = "".join(said[p] if isinstance(p, Slot) else p for p in draw(rng, pattern))
    return " ".join(text.replace(" ,", ",").split())


def _tidy(text: str, rng: random.Random) -> str:
    if rng.random() < 0.2:
        text = rng.choice(["please ", "hey, ", "ok, ", "now "]) + text
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return text + rng.choice(["", "", ".", "!"]) if text[-1].isalnum() else text
