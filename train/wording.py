"""What the generator says around a request: courtesies, joints, small talk, and what tools respond.

JOIN and AGAIN are by language and by whether the phrasing is one that is kept for testing. Standard library only.
"""

from __future__ import annotations

import re
from typing import Any

from edge.train.values import listed

Json = dict[str, Any]

BEFORE = [
    "hey, ",
    "hi, ",
    "ok, ",
    "so, ",
    "please ",
    "can you ",
    "could you ",
    "could you please ",
    "I'd like you to ",
    "would you ",
    "can you please ",
    "now ",
    "quick: ",
]
AFTER = [
    ", please",
    ", thanks",
    ", thank you",
    " now",
    " please",
    " for me",
    " if you can",
    ", would you",
    " right now",
]
# How what is no order begins: "please" and "can you" don't go with it.
NO_REQUEST = re.compile(
    r"(?:i|time to|it|we|where|what|how|who|why|will|do|are|is|can|could|may|might|let|don't|new|would|my|our|this|that|"
    r"the|there|no|you|any\w*|some\w*|if|about|for|on|in|at|to|next|please|good|thanks|a|an|all|your|one|as|from|into|"
    r"when|now|does|has|did|first|tonight|today|which|screen|volume|torch|flashlight|quiet|directions|location|room|car|oven|"
    r"food|plug|power|sprinkler|support|dictionary|contact|shipment|"
    r"alarm|timer|weather|wi-?fi|bluetooth|web|internet|shopping|taxi|cab|note)\b|\{"
)
JOIN = {
    ("en", False): [
        " and ",
        " and then ",
        ". Also, ",
        ", then ",
        " and also ",
        ". Then ",
        ", and ",
        "; ",
        ". After that, ",
        ". ",
    ],
    ("en", True): [", plus ", ", and after that ", ". Next, ", " as well as "],
    ("ko", False): [
        " 그리고 ",
        ", 그리고 ",
        ". 그리고 ",
        ", ",
        ". ",
        " 그다음에 ",
        " 그리고 또 ",
        ". 또 ",
        ", 그다음 ",
        ". 그 후에 ",
        ", 이어서 ",
        ". 추가로 ",
    ],
    ("ko", True): [" 그런 다음 ", ". 그러고 나서 "],
}

# How one goes on after an answer, and how one asks for the same again, with another argument.
NEXT = ["thanks! ", "great, ", "thank you. ", "nice, ", "ok, ", "perfect. ", "good, ", "next: ", "alright, "]
NEXT_FAILED = ["ok, ", "hm, ", "never mind. ", "too bad. ", "alright, ", "well, "]
NEXT_KO = [
    "고마워. ",
    "좋아, ",
    "이제 ",
    "다음은 ",
    "그럼 ",
    "감사합니다. ",
    "잘했어, ",
    "오케이, ",
    "좋네요. ",
    "그리고 ",
]
NEXT_FAILED_KO = ["그래? ", "그럼 ", "괜찮아. ", "음, ", "알았어, ", "아쉽네. ", "할 수 없지, ", "아 그래, "]
AGAIN = {
    ("en", False): [
        "the same again, but {clause}",
        "[the] same thing[,] but {clause}",
        "once more, but {clause}",
        "(do|repeat) (that|it)[ again], [but|only] {clause}",
        "again, [but] this time {clause}",
        "[now] one more time, {clause}",
        "that again, {clause}",
        "I (want|need) (that|the same) again, but {clause}",
    ],
    ("en", True): [
        "ditto, just {clause}",
        "another one like that, only {clause}",
        "same procedure as before, {clause}",
        "rerun it, though {clause}",
    ],
    ("ko", False): [
        "{clause}다시 (해줘|해 줘|해주세요)",
        "똑같이, {clause}한 번 더 (해줘|해주세요)",
        "이번엔 {clause}해줘",
        "같은 거 {clause}또 해줘",
        "한 번 더, {clause}해 (줘|주세요)",
        "{clause}바꿔서 다시 (해줘|해 줄 수 있어?|부탁해요)",
        "방금 거 {clause}다시 (해줘|해줄래?)",
        "이번에는 {clause}(해 줄 수 있어?|해 주세요|할래)",
        "{clause}같은 걸로 한 번 더 (해줘|부탁해요)",
        "또 한 번, {clause}해줘",
        "그거 {clause}다시 (하고 싶어|해줘)",
    ],
    ("ko", True): ["아까처럼 {clause}부탁해", "{clause}반복해 (줘|주세요)"],
}

# What tools respond: that it is done, what went wrong, or a value of one of these kinds.
OK: list[Json] = [{"status": "ok"}, {"status": "done"}, {"success": True}, {"ok": True}, {"status": "success"}]
ERRORS = listed("""{word} not found|no {word} available|the {word} is {word}|timeout after {int} seconds|
{word} {word} is offline|error {code}|permission denied by {word}|{word} is busy|code {int:100:599}""")
RESULTS = ("word", "phrase:1:3", "int:0:500", "float:0:90", "code", "place", "first", "time")
CHAT = listed("""tell me a joke|what is the capital of {city}|who are you|how old is {first} {last}|I'm bored|
what is {int} plus {int}|do you like {item}|sing something|what does {word} mean|thanks a lot|good morning|
who wrote {song}|explain {phrase}|how far is the moon|are you a robot|write a poem about {word}|why is the sky blue|
I had {item} for lunch|my name is {first}|is {word} a word|what's your favourite {word}|who won the match yesterday|
how do I learn {word}|you are great|what do you think about {phrase}|give me advice on {phrase}""")
CHAT_KO = listed("""안녕|고마워|너는 누구야|심심해|농담 하나 해줘|{item_ko} 좋아해?|하늘은 왜 파래?|
{place_ko} 인구가 얼마야?|배고파|사랑이 뭐야?""")
