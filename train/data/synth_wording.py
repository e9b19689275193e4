"""How people ask for a tool that nobody wrote phrasings for: patterns out of its name, its description and its parameters.

English and Korean; each tool gets some patterns to train with and others that are kept for testing, which share no
sentence. Patterns are those of `train/phrases.py`; what opens a request ("<to>", "<you>") is the generator's.
"""

# ruff: noqa: SIM905  (a table of words reads better as text)

from __future__ import annotations

import re
from dataclasses import dataclass

from edge.dialects import Tool
from edge.records import Json
from edge.train.toolset.concepts import spell
from edge.train.values import listed

from .synth_values import kind_of, words

# How a tool's name begins / how people say it / how they say it in testing / Korean, what stands before 줘 or 주세요.
_ROWS = [
    row.split("/")
    for row in """set configure assign/set|change|put/adjust/설정해,맞춰
change modify/change|alter/switch/바꿔,변경해
update edit/update|change|edit/revise/수정해,고쳐
adjust tune/adjust|change|set/tweak/조절해,맞춰
get fetch retrieve read show display view report/get|show me|tell me|give me/let me have/알려,보여
check inspect verify/check|tell me|look at/have a look at/확인해,봐
list/list|show me|give me/go through/보여,나열해
find search look_up lookup query locate/find|search for|look up|look for/try to find/찾아,검색해
create make generate build new/create|make/come up with/만들어,생성해
add append insert/add|put in/include/추가해,넣어
send deliver/send|send off/get out/보내,전송해
write compose draft/write|compose/put together/써,작성해
delete remove erase clear/delete|remove|erase/get rid of/삭제해,지워
cancel abort/cancel|call off/drop/취소해
start begin launch run/start|begin|launch/get going with/시작해,실행해
stop end halt/stop|end|halt/put an end to/멈춰,중지해
pause/pause|hold/put on hold/일시정지해
resume continue/resume|continue/carry on with/계속해
open/open|open up/pull open/열어
close shut/close|shut/pull shut/닫아
lock/lock|lock up/bolt/잠가
unlock/unlock|open/unbolt/열어
turn_on switch_on enable activate/turn on|switch on|enable/power up/켜
turn_off switch_off disable deactivate/turn off|switch off|disable/power down/꺼
turn rotate/turn|rotate/spin/돌려
toggle/toggle|switch/flip/바꿔
play/play|put on/let me hear/틀어,재생해
schedule plan/schedule|plan|arrange/put in the calendar/예약해,잡아
book reserve/book|reserve/get me/예약해
order buy purchase/order|buy|get/pick up/주문해,사
pay/pay|settle/take care of/결제해,내
call phone dial ring/call|phone|ring/get on the phone/전화해
remind/remind me of|remind me about/don't let me forget/알려
translate/translate|put/render/번역해
convert/convert|change|turn/work out/변환해,바꿔
calculate compute estimate/calculate|compute|work out/figure out/계산해
measure weigh/measure|take/gauge/측정해
count/count|add up/tally/세
compare/compare/put side by side/비교해
save store keep record log/save|store|keep/put away/저장해,기록해
load/load|bring up/pull up/불러와
print/print|print out/put on paper/인쇄해
scan/scan|scan in/run a scan of/스캔해
share post publish/share|post/pass on/공유해,올려
download/download|fetch/pull down/다운로드해,받아
upload/upload|push up/put online/업로드해,올려
move/move|shift/bring over/옮겨
copy duplicate/copy|duplicate/make a copy of/복사해
rename/rename|name/give a new name to/이름 바꿔
rate score review/rate|score/give a mark to/평가해
track follow/track|follow/keep an eye on/추적해,확인해
navigate drive go/navigate|take me|guide me/bring me/안내해
clean wash vacuum/clean|wash/tidy up/청소해
fill/fill|fill up/top up/채워
water/water|give water to/sprinkle/물
feed/feed|give food to/get food to/먹이
heat warm/heat|warm|warm up/bring up the heat of/데워
cool/cool|cool down|chill/bring down the heat of/식혀
brew/brew|make|prepare/fix/내려,만들어
cook bake/cook|make|bake/fix/만들어,요리해
grind mill/grind|mill/crush/갈아
mix stir/mix|stir/blend/섞어
increase raise/increase|raise|turn up/bump up/올려,높여
decrease lower reduce/decrease|lower|turn down/bring down/내려,낮춰
mute silence/mute|silence/hush/음소거해
connect join/connect|join/hook up/연결해
disconnect leave/disconnect|leave/unhook/끊어
take capture/take|capture/snap/찍어
invite/invite|ask/bring in/초대해
reply answer/reply|answer/respond/답장해
restart reboot reset/restart|reset/start over/재시작해,초기화해
submit file/submit|hand in/turn in/제출해
return give/return|give back/hand back/반납해
rent hire/rent|hire/get on rent/빌려
apply use/apply|use/make use of/적용해,사용해""".splitlines()
]
_BY_NAME = {name: row for row in _ROWS for name in row[0].split()}
_PARTICLES = {"on", "off", "up", "down", "out", "in", "back", "over", "away"}
_MAKING = set(
    "create make generate build new add append send write compose schedule plan book reserve order buy take".split()
)
# Where a description goes on to say with what.
_CUT = re.compile(
    r"\s(?:to|with|for|from|by|in|on|at|using|given|based|that|which|whose|between|into|via|and|or|as|if|so|when|where|about|"
    r"per|within|according|including|through|over|under|after|before)\b|[,;:(]"
)
_KOREAN = dict(
    pair.split()
    for pair in listed("""light 조명|lights 조명|lamp 전등|room 방|temperature 온도|alarm 알람|timer 타이머|weather 날씨|music 음악|
song 노래|volume 볼륨|brightness 밝기|door 문|window 창문|message 메시지|text 내용|email 이메일|mail 메일|call 전화|contact 연락처|
name 이름|title 제목|date 날짜|day 날짜|time 시간|hour 시|minutes 분|seconds 초|duration 시간|location 위치|place 장소|
address 주소|city 도시|country 나라|destination 목적지|event 일정|calendar 캘린더|meeting 회의|appointment 예약|reminder 알림|
note 메모|notes 메모|list 목록|item 항목|items 항목|task 할일|tasks 할일|price 가격|amount 금액|quantity 수량|count 개수|number 번호|
color 색상|colour 색상|mode 모드|speed 속도|level 단계|percent 퍼센트|size 크기|type 종류|kind 종류|category 분류|priority 우선순위|
status 상태|order 주문|ticket 티켓|flight 항공편|hotel 호텔|restaurant 식당|table 테이블|taxi 택시|route 경로|map 지도|
photo 사진|video 영상|movie 영화|file 파일|document 문서|screen 화면|battery 배터리|wifi 와이파이|bluetooth 블루투스|
fan 선풍기|heater 히터|thermostat 온도조절기|degrees 온도|coffee 커피|drink 음료|food 음식|recipe 레시피|cups 잔|language 언어|
currency 통화|unit 단위|query 검색어|keyword 검색어|subject 제목|body 내용|content 내용|recipient 받는사람|to 받는사람|
person 사람|people 사람들|guests 인원|user 사용자|password 비밀번호|code 코드|id 번호|phone 전화번호|start 시작|end 종료|
tag 태그|tags 태그|steps 단계|description 설명|comment 의견|reason 이유|rating 평점|distance 거리|weight 무게|
account 계좌|balance 잔액|payment 결제|package 소포|news 뉴스|stock 주식|game 게임|car 자동차|garage 차고|camera 카메라|
tv 티비|television 텔레비전|curtain 커튼|blinds 블라인드|plant 식물|plants 식물|oven 오븐|vacuum 청소기""")
)
# Verbs whose object a parameter is, not the rest of the tool's name.
_TAKING = set(
    "search find look_up lookup query play open launch translate buy order purchase add cook bake call".split()
)
# What may follow the verb at once: "search for {query}", "play {song}".
_OBJECTS = re.compile(
    r"^(query|q|search|search_query|keyword|song|track|title|task|item|product|word|app|app_name|topic|expression|movie|"
    r"recipe|question|artist|playlist|book|drink|dish|object)$"
)


@dataclass(frozen=True)
class Phrasings:
    """Patterns for one tool in one language: `say` to train with, `held` kept for testing."""

    say: tuple[str, ...]
    held: tuple[str, ...]


@dataclass(frozen=True)
class Clauses:
    """Patterns that mention one parameter in one language. `no`, `no_held`: what means no, of a boolean."""

    say: tuple[str, ...]
    held: tuple[str, ...]
    no: tuple[str, ...] = ()
    no_held: tuple[str, ...] = ()


# --- requests -------------------------------------------------------------------------------------------------------------


def english(tool: Tool) -> Phrasings:
    """How people ask for it, without its parameters, and with one that may follow the verb at once."""
    said, kept = _cores(tool["function"])
    return Phrasings(
        (*said, *(spell(f"{opening} ({'|'.join(said)})") for opening in ("<to>", "<you>", "<ask>"))),
        tuple(spell(f"{opening} ({'|'.join(kept)})") for opening in _HELD),
    )


_HELD = (
    "<kindly>",
    "how about you",
    "let's",
    "I was wondering if you could",
    "it would be great to",
    "my request is to",
    "what about this:",
    "one more job:",
)


def _cores(function: Json) -> tuple[list[str], list[str]]:
    """The orders themselves, such as "(set|change) the alarm", and those for testing."""
    name = [_plain(word) for word in words(function["name"]).split()]
    known, verb, rest = _verb(name)
    told = _described(str(function.get("description") or ""))
    said, kept = [], []
    if known:
        noun = _noun(rest, verb)
        said.append(f"({known[1]}) {noun}".strip())
        kept.append(f"({known[2]}) {noun}".strip())
    if told:
        said.append(told)
        kept.append(told)
    if not said:
        noun = "the " + " ".join(name)
        said += [f"(use|run|do|I need) {noun}", f"(get|give me) {noun}"]
        kept += [f"(go for|try) {noun}"]
    objects = [(n, s) for n, s in _properties(function).items() if _OBJECTS.match(words(n).replace(" ", "_"))]
    if known and len(objects) == 1 and objects[0][1].get("type") == "string":
        what = f"[the {_plain(words(objects[0][0]))}]" if verb in _TAKING else f"{_noun(rest, verb)} (called|titled|)"
        said.append(f"({known[1]}) {what} {{{objects[0][0]}}}")
        kept.append(f"({known[2]}) {what} {{{objects[0][0]}}}")
    return list(dict.fromkeys(said)), list(dict.fromkeys(kept))


def _verb(name: list[str]) -> tuple[list[str] | None, str, list[str]]:
    """The table's row for the beginning of a name, the verb, and the words behind it."""
    for size in (2, 1):
        row = _BY_NAME.get("_".join(name[:size]))
        if row and (len(name) > size or size == 1):
            return row, "_".join(name[:size]), name[size:]
        if row:
            return row, "_".join(name[:size]), []
    if name and name[-1] in _BY_NAME and len(name) > 1:  # light_set
        return _BY_NAME[name[-1]], name[-1], name[:-1]
    return None, "", name


def _noun(rest: list[str], verb: str) -> str:
    if not rest:
        return ""
    text = " ".join(rest)
    if rest[0] in ("a", "an", "the", "my", "all"):
        return text
    plural = rest[-1].endswith("s") and not rest[-1].endswith(("ss", "us", "is"))
    if verb in _MAKING:
        return text if plural else f"(a{'n' if text[0] in 'aeiou' else ''}|the) {text}"
    return f"(the|my|) {text}" if plural else f"(the|my) {text}"


def _described(text: str) -> str:
    """The description's first clause as an order: "Sets the alarm for a day." -> "set the alarm"; "" if it is none."""
    first = _plain(re.split(r"(?<=[\w)])[.!?\n](?:\s|$)", text.strip() + " ")[0])
    if not re.fullmatch(r"[A-Za-z][\x20-\x7e]*", first):
        return ""
    verb, _, rest = first.partition(" ")
    base = _base(verb.lower())
    if not base:
        return f"(get|tell me|show me) {first[0].lower()}{_cut(first[1:])}" if verb in ("The", "A", "An") else ""
    particle, _, more = rest.partition(" ")
    kept = f"{particle} {_cut(more, at_once=True)}" if particle in _PARTICLES else _cut(rest, at_once=True)
    return f"{base} {kept}".strip() if kept.strip() else ""


def _base(verb: str) -> str:
    """`sets` -> `set`; "" for a word that is probably no verb."""
    if verb in _BY_NAME:
        return verb
    forms = [verb[:-1]] if verb.endswith("s") and not verb.endswith("ss") else []
    forms += [verb[:-2]] if verb.endswith("es") else []
    forms += [f"{verb[:-3]}y"] if verb.endswith("ies") else []
    known = next((form for form in forms if form in _BY_NAME), None)
    if known or not forms:
        return known or ""
    if verb.endswith("ies"):
        return forms[-1]
    return forms[1] if verb.endswith(("sses", "shes", "ches", "xes", "zes", "oes")) else forms[0]


def _cut(text: str, at_once: bool = False) -> str:
    """Up to where a description says with what; at_once: even right at its beginning."""
    match = _CUT.search(f" {text}" if at_once else text)
    end = (match.start() - at_once if match else len(text)) if match else len(text)
    return text[: max(0, end)].strip()


def _plain(text: str) -> str:
    """Without what the patterns give a meaning to, and what a model's tokens are made of."""
    return " ".join(re.sub(r"[()\[\]{}|<>\"`*_]", " ", text).split())


def _properties(function: Json) -> dict[str, Json]:
    return dict((function.get("parameters") or {}).get("properties") or {})


# --- parameters -----------------------------------------------------------------------------------------------------------

_OF_KIND = ("language", "unit", "currency")
# By kind or by name: what stands before the value.
_BEFORE = [
    (re.compile(r"^(to|recipient|receiver|recipient_email|email|to_email)$"), ("person", "email", "first", "phone"), " to "),
    (re.compile(r"^(destination|to|to_.*|arrival.*|target.*)$"), ("city", "place", "country", *_OF_KIND), " to "),
    (re.compile(r"^(origin|from|source|from_.*|departure.*)$"), ("city", "place", "country", "person", *_OF_KIND), " from "),
    (re.compile(r"room|zone|area"), None, " in the "),
    (re.compile(r"."), ("city", "place", "country"), " in "),
    (re.compile(r"."), ("time",), " at "),
    (re.compile(r"."), ("date",), " for "),
    (re.compile(r"."), ("when",), " "),
    (re.compile(r"."), ("text",), " saying "),
    (re.compile(r"."), ("person", "first", "people"), " for "),
    (re.compile(r"language|currency|unit"), None, " in "),
]  # fmt: skip
_UNITS = [
    (re.compile(r"percent|%|\bvolume\b|brightness"), "percent"),
    (re.compile(r"degree|temperature|celsius|fahrenheit"), "degrees"),
    (re.compile(r"minute"), "minutes"),
    (re.compile(r"second"), "seconds"),
    (re.compile(r"hour"), "hours"),
    (re.compile(r"\bdays?\b"), "days"),
    (re.compile(r"\bgrams?\b"), "grams"),
    (re.compile(r"kilomet"), "kilometres"),
    (re.compile(r"\bmiles?\b"), "miles"),
]
_UNITS_KO = {"percent": "퍼센트", "degrees": "도", "minutes": "분", "seconds": "초", "hours": "시간", "days": "일",
             "grams": "그램", "kilometres": "킬로미터", "miles": "마일"}  # fmt: skip


_CALLED = {"to": "recipient", "from": "source", "when": "time", "where": "place", "who": "person", "whom": "person",
           "q": "query", "n": "number"}  # fmt: skip


def label(name: str, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """What people call a parameter: its name's words, without what only programs say. taken: labels of the others."""
    text = _plain(words(name))
    text = _CALLED[text] if text in _CALLED and _CALLED[text] not in taken else text
    short = re.sub(r"^(is|has|should|enable|use|with|include) ", "", text)
    return short if short and short not in taken else text or "value"


def clauses(tool: Tool, name: str, labels: dict[str, str]) -> tuple[Clauses, Clauses]:
    """How a parameter is mentioned, in English and in Korean. labels: what people call it, where that is known."""
    properties = _properties(tool["function"])
    schema = properties[name]
    taken = {_plain(words(other)) for other in properties if other != name}
    called = labels.get("en", label(name, taken))
    ko = labels.get("ko", _translated(label(name, taken)))
    if schema.get("type") == "boolean":
        return _yes_or_no(called, ko)
    slot, unit = f"{{{name}}}", _unit(name, schema)
    said = [f", {called} {slot}{unit}", f" with {called} {slot}{unit}", f" with the {called} {slot}{unit}",
            f", {called}: {slot}{unit}"]  # fmt: skip
    held = [f", the {called} is {slot}{unit}", f", {called} should be {slot}{unit}", f", {slot}{unit} as the {called}"]
    before = _before(name, schema)
    if before and before not in {_before(other, properties[other]) for other in properties if other != name}:
        said += [f"{before}{slot}"] * 3
    elif unit and sum(bool(_unit(n, s)) for n, s in properties.items()) == 1:
        said += [f" to {slot}{unit}", f", {slot}{unit}", f" at {slot}{unit}"]
    return Clauses(tuple(said), tuple(held)), _korean_clauses(name, schema, ko)


def _yes_or_no(called: str, ko: str) -> tuple[Clauses, Clauses]:
    english = Clauses(
        (f" with {called}", f", {called}: yes", f", {called} on", f", {called}"),
        (f", yes to {called}", f", {called} please"),
        (f" without {called}", f", {called}: no", f", {called} off", f", no {called}"),
        (f", not {called}", f", skip {called}"),
    )
    korean = Clauses(
        (f"{ko} 켜고 ", f"{ko} 포함해서 ", f"{ko}: 예, "),
        (f"{ko} 있게 ",),
        (f"{ko} 끄고 ", f"{ko} 빼고 ", f"{ko}: 아니요, "),
        (f"{ko} 없이 ",),
    )
    return english, korean


def _before(name: str, schema: Json) -> str:
    lower, kind = words(name).replace(" ", "_"), ""
    if schema.get("type") == "string" and "enum" not in schema and "pattern" not in schema:
        kind = kind_of(name, schema)
    found = (text for pattern, kinds, text in _BEFORE if pattern.search(lower) and (kinds is None or kind in kinds))
    return next(found, "") if schema.get("type") == "string" else ""


def _unit(name: str, schema: Json) -> str:
    if schema.get("type") not in ("integer", "number"):
        return ""
    told = f"{words(name)} {str(schema.get('description') or '').lower()}"
    unit = next((unit for pattern, unit in _UNITS if pattern.search(told)), "")
    return "" if not unit or unit.rstrip("s") in words(name) else f" {unit}"


# --- Korean ---------------------------------------------------------------------------------------------------------------


def korean(tool: Tool) -> Phrasings:
    """The same in Korean. Without particles that depend on the word before them: spoken orders leave them out."""
    function = tool["function"]
    known, _, rest = _verb([_plain(word) for word in words(function["name"]).split()])
    noun = _translated(" ".join(rest))
    does = known[3].split(",") if known else ["실행해"]
    said = [f"{noun} {verb}<줘>".strip() for verb in does]
    said += [f"{noun} {verb} (줄래|줄 수 있어)?".strip() for verb in does]
    said += [f"{noun} 좀 {verb}<줘>".strip() for verb in does]
    held = [f"{noun} {verb} (줬으면 해|주면 좋겠어|주실래요)".strip() for verb in does]
    return Phrasings(tuple(map(spell, said)), tuple(held))


def _translated(text: str) -> str:
    return " ".join(_KOREAN.get(word, word) for word in text.split())


def _korean_clauses(name: str, schema: Json, ko: str) -> Clauses:
    slot = f"{{{name}}}"
    unit = _UNITS_KO.get(_unit(name, schema).strip(), "")
    said = [f"{ko} {slot}{unit} ", f"{ko}: {slot}{unit}, ", f"{ko} {slot}{unit}, "]
    kind = kind_of(name, schema) if schema.get("type") == "string" and "enum" not in schema else ""
    if kind in ("time", "date", "when") and "pattern" not in schema:
        said.append(f"{slot}에 ")
    return Clauses(tuple(said), (f"{ko} 값 {slot}{unit}, ", f"{ko}{_topic(ko)} {slot}{unit}, "))


def _topic(word: str) -> str:
    """은 behind a syllable that ends in a consonant, 는 behind anything else."""
    last = ord(word[-1]) - ord("가")
    return "은" if 0 <= last < 11172 and last % 28 else "는"
