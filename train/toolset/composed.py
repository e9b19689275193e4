"""Tools made of verbs, things and parameters: "descale the espresso machine for 12 minutes".

Some of their names are words of no language at all, so that the only way to write them is to read the declaration.
Standard library only.
"""

# Tables: formatted they take twice the lines.
# fmt: off
from __future__ import annotations

import random
from typing import Optional

from edge.train.toolset.concepts import COLORS, COLORS_KO, ROOMS, ROOMS_KO, Concept, P, Param, spell
from edge.train.values import invented, side

# tool verbs / how people say it / Korean. No two rows mean the same, so that two rows can stand in one prompt.
_VERBS = [row.split("/") for row in """start launch begin run/start|begin|launch|fire up|run|power up/시작해|가동해
stop halt end/stop|halt|end|shut down|kill/멈춰|중지해
open unlock_and_open/open|open up|open wide|pull open/열어
close shut/close|shut|close up|pull shut/닫아
clean wash/clean|wash|scrub|clean up|wipe down/청소해
check inspect get_status/check|inspect|have a look at|check on|look over/확인해|점검해
pause suspend/pause|suspend|hold|freeze/일시정지해
reset restart reboot/reset|restart|reboot|do a reset of/초기화해|재시작해
book reserve/book|reserve|make a booking for|secure a booking for/예약해
cancel abort call_off/cancel|call off|abort|drop/취소해
order purchase buy/order|buy|purchase|place an order for/주문해
print/print|print out|make a print of|run a print of/인쇄해
scan/scan|scan in|make a scan of|run a scan of/스캔해
repair fix/repair|fix|mend|do a repair of/고쳐|수리해
fill refill/fill|refill|fill up|top up/채워
empty drain/empty|drain|empty out|clear out/비워
feed/feed|give food to|get food to|serve food to/먹이 줘
water irrigate/water|irrigate|give water to|pour water on/물 줘
heat warm_up/heat|warm up|heat up|heat through/데워
cool chill/cool|chill|cool down|cool off/식혀
move relocate/move|relocate|bring over|shift/옮겨
archive/archive|put away|store away|file away/보관해
upload/upload|push up|do an upload of|send up/업로드해
download fetch/download|fetch|pull down|get a download of/다운로드해|내려받아
sync synchronize/sync|synchronize|sync up|do a sync of/동기화해
update upgrade/update|upgrade|refresh|get the update for/업데이트해
install set_up/install|set up|do the setup of|do the installation of/설치해
measure/measure|take the measure of|gauge|get a measurement of/측정해
calibrate tune/calibrate|tune|fine-tune|do the calibration of/조정해
rent hire/rent|hire|take on rent|get a rental of/빌려
return give_back/return|give back|bring back|hand back/반납해
rate score/rate|score|give a rating to|give a score to/평가해
review/review|go over|write a review of|read over/검토해
approve accept/approve|accept|sign off|give approval to/승인해
reject decline/reject|decline|turn down|say no to/거절해
assign delegate/assign|delegate|hand over|pass on/배정해
hide/hide|conceal|cover up|hide away/숨겨
lift raise/raise|lift|lift up|bring up/올려
lower/lower|bring down|let down|move down/내려
record/record|tape|make a recording of|capture/녹화해
export/export|export out|make an export of|save an export of/내보내""".splitlines()]

THINGS = [row.split("/") for row in """washing machine/세탁기
dishwasher/식기세척기
robot vacuum/로봇청소기
oven/오븐
fridge/냉장고
kettle/전기포트
toaster/토스터
garage door/차고문
window blinds/블라인드
curtains/커튼
air purifier/공기청정기
humidifier/가습기
ceiling fan/선풍기
heater/히터
bathtub/욕조
sprinkler/스프링클러
lawn mower/잔디깎이
swimming pool/수영장
greenhouse/온실
hot tub
projector/프로젝터
television/텔레비전
speaker/스피커
printer/프린터
scanner/스캐너
laptop/노트북
server/서버
database/데이터베이스
router/공유기
backup/백업
website/웹사이트
newsletter/소식지
invoice/청구서
contract/계약서
order/주문
refund
subscription/구독
ticket/티켓
survey/설문
report/보고서
spreadsheet
presentation/발표자료
dashboard
meeting room/회의실
parking spot/주차 자리
rental car/렌터카
bicycle/자전거
scooter/킥보드
boat/보트
drone/드론
camera/카메라
microscope/현미경
telescope/망원경
microphone/마이크
conveyor belt
forklift/지게차
crane/크레인
generator/발전기
solar panels/태양광 패널
battery pack/배터리
wind turbine
water pump/물펌프
compressor
label printer
laser cutter
sewing machine/재봉틀
piano/피아노
guitar/기타
jukebox
game console/게임기
elevator/엘리베이터
escalator
treadmill/러닝머신
rowing machine
massage chair/안마의자
hotel room/호텔방
flight/항공편
train seat/기차 좌석
ferry
campsite/캠핑장
tent/텐트
sauna/사우나
library book/도서
magazine
photo album/사진첩
video/동영상
podcast/팟캐스트
audiobook/오디오북
blog post/게시글
comment/댓글
profile/프로필
account/계정
password/비밀번호
firewall/방화벽
sensor/센서
alarm system/경보기
baby monitor
doorbell/초인종
mailbox/우편함
bird feeder
chicken coop
horse/말
cat/고양이
tomato plants/토마토
orchids/난초
rose bed
compost bin
pizza/피자
salad/샐러드
soup/수프
cake/케이크
sandwich/샌드위치
burger/햄버거
smoothie
bouquet/꽃다발
gift box/선물
parcel locker
wheelchair/휠체어
hearing aid
blood pressure monitor/혈압계
inhaler
x-ray machine
satellite/위성
rocket/로켓
radar
submarine
excavator
tractor/트랙터
harvester
beehive
well""".splitlines()]


def _composed_params() -> list[tuple[str, Param]]:
    """(group, parameter): a tool takes at most one of each group, since they sound alike."""
    return [
        ("for", P("minutes", "int:1:90", "minutes duration duration_min time_minutes",
            "How many minutes.|Duration in minutes.", clauses=[" for {minutes} (minutes|min)",
            ", {minutes} minutes long",
            ", duration {minutes} minutes", ", {minutes} minutes", " and stop after {minutes} minutes"],
            held=[" during {minutes} minutes", ", it takes {minutes} minutes"], ko=["{minutes}분 동안 ",
                "{minutes}분간 ",
                "{minutes}분만 ", "시간은 {minutes}분, ", "{minutes}분짜리로 "])),
        ("for", P("hours", "int:2:12", "hours duration_hours", "How many hours.|Duration in hours.",
            clauses=[" for {hours} hours", ", {hours} hours long", ", duration {hours} hours", ", {hours} hours",
                " and stop after {hours} hours"],
            held=[" during {hours} hours", ", it takes {hours} hours"], ko=["{hours}시간 동안 ",
                "{hours}시간만 ", "{hours}시간 ", "시간은 {hours}시간, ", "{hours}시간짜리로 "])),
        ("at", P("time", "time", "time start_time at_time", "When, as HH:MM.|Time of day, HH:MM.",
            clauses=[" at {time}", " [starting] at {time}", ", time {time}", ", {time}", " when it is {time}"],
            held=[", {time} sharp", ", the time is {time}"], ko=["{time}에 ",
                "{time} 정각에 ", "시간은 {time}, ", "{time}부터 ", "{time}(이|가|) 되면 "])),
        ("on", P("day", "date", "date day on_date", "The day as YYYY-MM-DD.|Which day (YYYY-MM-DD).",
            clauses=[" on {day}", " {day}", ", {day}", ", date {day}", ", [but] only {day}"],
            held=[", the day is {day}", ", do it {day}"], ko=["{day}에 ",
                "날짜는 {day}, ", "{day}(에는|) ", "{day}(이|가|) 되면 "])),
        ("temp", P("degrees", "int:5:240", "temperature degrees heat_level", "The temperature in degrees.|Degrees.",
            clauses=[" at {degrees} degrees", " to {degrees} degrees", ", {degrees} degrees", ", temperature {degrees}",
                " with a temperature of {degrees} [degrees]"],
            held=[", {degrees} degrees hot", ", the temperature is {degrees}"], ko=["{degrees}도로 ",
                "온도는 {degrees}도로 ", "{degrees}도에 맞춰서 ", "온도 {degrees}도로 ", "{degrees}도까지 "])),
        ("level", P("level", "int:1:10", "level intensity power strength", "From 1 to 10.|The level.",
            clauses=[" at level {level}", " on level {level}", ", level {level}", " using level {level}",
                " and set the level to {level}"],
            held=[" with a level of {level}", ", the level should be {level}"], ko=["{level}단계로 ",
                "강도 {level}단계로 ", "단계는 {level}, ", "레벨 {level}(로|으로) ", "세기 {level}로 "])),
        ("percent", P("percent", "round:5:100", "percent percentage share", "Per cent.|How much, in percent.",
            clauses=[" to {percent} percent", " to {percent}%", ", {percent} percent", ", up to {percent} percent",
                " at {percent}%"],
            held=[" until {percent} percent", ", as far as {percent} percent"], ko=["{percent}퍼센트로 ",
                "{percent}%로 ", "{percent}퍼센트까지 ", "{percent}%까지 ", "{percent}퍼센트에 맞춰 "])),
        ("times", P("times", "int:2:12", "times count repeat repetitions", "How many times.|Repetitions.",
            clauses=[" {times} times", ", {times} times", ", repeat {times} times", ", {times} times in a row",
                " and repeat that {times} times"],
            held=[" and do that {times} times", ", it has to happen {times} times"], ko=["{times}번 ",
                "{times}회 ", "총 {times}번 ", "{times}번 반복해서 ", "횟수는 {times}번, "])),
        ("room", P("room", "enum", "room location area", "The room.|Where.", options=ROOMS, options_ko=ROOMS_KO,
            clauses=[" in the {room}", ", {room}", ", room: {room}", ", it's in the {room}", " over in the {room}"],
            held=[", the one in the {room}", ", you find it in the {room}"], ko=["{room}에서 ",
                "{room}에 있는 거 ", "장소는 {room}, ", "{room} 쪽에서 ", "{room}에 가서 "])),
        ("color", P("color", "enum", "color colour", "The colour.|Which colour.", options=COLORS, options_ko=COLORS_KO,
            clauses=[" in {color}", ", color {color}", " with the color {color}", ", {color}", ", the {color} one"],
            held=[", make it {color}", ", it should be {color}"], ko=["{color}으로 ",
                "색은 {color}으로 ", "색상 {color}으로 ", "색깔은 {color}, "])),
        ("size", P("size", "enum", "size format", "The size.|How big.", options=["small", "medium", "large"],
            options_ko=["작은", "중간", "큰"], clauses=[" in size {size}", ", size {size}", ", {size} size", ", {size}",
            ", the {size} one"], held=[" as a {size} one", ", the size should be {size}"], ko=["{size} 크기로 ",
                "크기는 {size} 걸로 ", "{size} 사이즈로 ", "{size} 걸로 "])),
        ("priority", P("priority", "enum", "priority urgency", "How urgent.|Priority.",
            options=["low", "normal", "high", "urgent"], clauses=[" with {priority} priority", ", {priority} priority",
            ", priority {priority}", " at {priority} priority", ", the priority is {priority}"],
            held=[" and treat it as {priority} priority", ", give that {priority} priority"])),
        ("speed", P("speed", "enum", "speed pace", "How fast.|The speed.", options=["slow", "normal", "fast", "turbo"],
            options_ko=["느린", "보통", "빠른", "터보"], clauses=[" at {speed} speed", ", {speed} speed",
            ", speed {speed}",
            " on {speed} speed", " and set the speed to {speed}"],
            held=[" with the speed {speed}", ", the speed should be {speed}"], ko=["{speed} 속도로 ",
                "속도는 {speed} 걸로 ", "{speed} 모드로 ", "{speed} 속도에 맞춰 "])),
        ("named", P("name", "phrase:1:2", "name label title", "What it is called.|The name.",
            clauses=[" (called|named) {name}", ", name {name}", " with the name {name}", " and (call|name) it {name}",
                ", the name is {name}"],
            held=[", it is known as {name}", ", it goes by the name {name}"], ko=["{name} 이름으로 ",
                "{name}(이라는|라는) 이름으로 ", "이름은 {name}, ", "이름을 {name}(로|으로) 해서 "])),
        ("who", P("person", "person", "person user owner customer", "For whom.|The person.|Who it is for.",
            clauses=[" for {person}", " on behalf of {person}", ", it's for {person}", ", customer {person}",
                " in the name of {person}"],
            held=[" because {person} asked", ", {person} wants it"], ko=["{person} 이름으로 ",
                "{person}(을|를) 위해 ", "{person} 앞으로 ", "{person} 부탁으로 "])),
        ("code", P("code", "code", "code id number reference", "The number.|Reference code.|Identifier.",
            clauses=[" number {code}", " with [the] (code|id|number) {code}", ", (code|id) {code}",
            ", reference {code}",
                ", the number is {code}"],
            held=[", you find it under {code}", " that has the code {code}"], ko=["번호 {code}로 ",
                "코드 {code}로 ", "번호는 {code}, ", "{code}번으로 ", "아이디 {code}로 "])),
        ("pin", P("pin", "pin", "pin passcode secret", "The PIN.|Secret digits.", clauses=[" with [the] pin {pin}",
            " using [the] pin {pin}", ", pin {pin}", ", the pin is {pin}", ", my passcode is {pin}"],
            held=[" and enter {pin} as the pin", ", type the pin {pin}"], ko=["비밀번호 {pin}으로 ",
                "핀 번호 {pin}으로 ", "비밀번호는 {pin}, ", "비번 {pin} 쓰고 ", "핀은 {pin}, "])),
        ("note", P("note", "text", "note comment remark message", "A note.|A remark.|Comment.",
            clauses=[" with the (note|comment) {note}", ", (note|comment)[:] {note}", ". Comment: {note}",
                " and add the (note|comment) {note}", ", the (note|remark) is {note}"],
            held=[", I also want to say {note}", ", and write this as a comment: {note}"], ko=["메모 {note} ",
                "메모는 {note}, ", "{note}(라고|이라고) 메모해서 ", "{note}(라는|이라는) 메모와 함께 "])),
        ("where", P("place", "place", "place city location address", "Where.|The place.|Address or city.",
            clauses=[" in {place}", " at {place}", ", location {place}", ", place: {place}", ", it's at {place}"],
            held=[", the place is {place}", ", you find it at {place}"], ko=["{place}에서 ",
                "장소는 {place}, ", "{place} 쪽에서 ", "{place}에 있는 거 ", "위치는 {place}, "])),
        ("email", P("email", "email", "email contact_email notify", "Whom to notify by e-mail.|An e-mail address.",
            clauses=[" and (notify|tell|email) {email}", ", email {email}", " with the email {email}",
                ", mail goes to {email}", ", the contact is {email}"],
            held=[" and copy {email} in", ", let {email} know"], ko=["이메일 {email}로 ",
                "{email}로 알리고 ", "이메일은 {email}, ", "메일 주소 {email}로 "])),
        ("url", P("url", "url", "url link source address", "The address.|A link.", clauses=[" from {url}",
            " (at|using) the (url|link) {url}", ", link {url}", ", url: {url}", ", the link is {url}"],
            held=[", you get it at {url}", ", go to {url} for it"], ko=["{url}에서 ",
                "링크 {url}에서 ", "주소는 {url}, ", "{url} 링크로 "])),
        ("file", P("file", "file", "file filename path", "The file.|Name of the file.",
            clauses=[" (with|from|using) the file {file}", ", file {file}", ", the file is {file}", " with {file}",
                " and use the file {file}"],
            held=[" and take {file}", ", {file} is the file"], ko=["{file} 파일로 ",
                "파일은 {file}, ", "{file} 써서 ", "{file}(을|를|) 사용해서 "])),
        ("kg", P("weight", "float:1:90", "weight weight_kg kilos", "The weight in kg.|Kilograms.",
            clauses=[" with {weight} (kg|kilograms)", ", {weight} kg", " weighing {weight} kg", ", weight {weight} kg",
                ", the weight is {weight} kilos"],
            held=[", it weighs {weight} kilograms", ", {weight} kilos heavy"], ko=["{weight}킬로그램으로 ",
                "무게는 {weight}킬로그램, ", "{weight}킬로로 ", "무게 {weight}kg으로 "])),
        ("price", P("price", "float:1:900", "price cost max_price budget", "The price.|At most so much.|In euros.",
            clauses=[" for {price} (euros|dollars)", " at [a price of] {price} (euros|dollars)", ", price {price}",
                ", the price is {price}", ", budget {price}"],
            held=[" costing {price} euros", ", I pay {price} euros"])),
        ("quiet", P("quiet", "bool", "quiet silent quiet_mode", "Whether to be quiet.|Silent or not.",
            clauses=[" quietly", " silently", " in quiet mode", ", keep quiet", " without [any] (sound|noise)"],
            no=[" with sound", " not in quiet mode", ", it may be loud", ", sound is fine", " with the sound on"],
            held=[", make no noise", ", I want it quiet"])),
        ("notify", P("notify", "bool", "notify send_notification alert", "Whether to notify.|Tell the user when done.",
            clauses=[" and (notify|tell) me", " with [a] notification", ", with an alert", " and let me know",
                ", send me an alert"],
            no=[" without [a] notification", ", don't notify me", ", no alert", " but don't tell me",
            ", no notification"],
            held=[", I want to hear about it", " and give me a notification"])),
        ("force", P("force", "bool", "force confirmed sure", "Don't ask again.|Without asking.",
            clauses=[" without asking", " right away, no questions", ", I'm sure", ", don't ask again",
                ", no need to confirm"],
            no=[" but ask first", " but let me confirm", ", ask me first", ", I'm not sure yet", ", wait for my ok"],
            held=[", I don't want to be asked", ", it needs no confirmation"])),
        ("tags", P("tags", "tags", "tags labels keywords", "Some tags.|Labels.|Keywords.",
            clauses=[" (tagged|with the tags) {tags}", ", tags[:] {tags}", ", labels {tags}",
            " and add the tags {tags}",
                ", keywords: {tags}"],
            held=[" and tag it as {tags}", ", the labels are {tags}"], ko=["태그 {tags}로 ",
                "태그는 {tags}, ", "{tags} 태그 붙여서 ", "{tags} 라벨로 "])),
        ("people", P("people", "people", "people participants guests", "Names.|Who takes part.",
            clauses=[" together with {people}", ", participants[:] {people}", " and invite {people}", " with {people}",
                ", {people} take part"],
            held=[", the guests are {people}", ", {people} will come too"], ko=["{people}와 함께 ",
                "{people}(이랑|랑|하고) 같이 ", "{people} 불러서 ", "참석자는 {people}, ", "{people}도 초대해서 "])),
        ("items", P("items", "items", "items parts contents", "The items.|What it holds.|Parts.",
            clauses=[" (including|containing) {items}", ", items[:] {items}", " with {items} in it", ", parts: {items}",
                " and add {items}"],
            held=[" and put {items} in", ", {items} belong in it"], ko=["{items} 넣어서 ",
                "{items} 추가해서 ", "{items} 포함해서 ", "내용물은 {items}, ", "{items}(을|를|) 담아서 "])),
        ("span", P("span", "object", "span window time_range period", "From when until when.|A time window.", fields=[
            P("from", "time", "start from begins", "Start, HH:MM."), P("until", "time", "end until ends",
            "End, HH:MM.")],
            clauses=[" from {from} to {until}", " between {from} and {until}", ", {from} until {until}",
                ", start {from} and end {until}", " from {from} until {until}"],
            held=[", the window is {from} to {until}", ", begin at {from} and finish at {until}"],
            ko=["{from}부터 {until}까지 ",
                "{from}에서 {until}까지 ", "{from}에 시작해서 {until}에 끝나게 ", "시간은 {from}부터 {until}까지, ",
                "{from}부터 {until} 사이에 "])),
        ("box", P("box", "object", "dimensions measures box", "Width and height.|How big, in cm.", fields=[
            P("width", "int:2:99", "width w width_cm", "Width in cm."),
            P("height", "int:2:99", "height h height_cm", "Height in cm.")],
            clauses=[" with {width} by {height} (cm|centimeters)", ", {width} by {height} cm",
                ", width {width} and height {height}", ", {width} cm wide and {height} cm high",
                " measuring {width} by {height}"],
            held=[", it is {width} by {height} centimeters", ", make that {width} by {height} cm"],
            ko=["가로 {width} 세로 {height}로 ",
                "너비 {width} 높이 {height}로 ", "가로 {width}센티 세로 {height}센티로 ",
                "크기는 가로 {width} 세로 {height}, "])),
    ]


COMPOSED = _composed_params()

# `DO` is the verb, `IT` the thing.
_SAY = tuple(map(spell, ("DO IT", "DO IT", "DO IT", "DO IT", "<to> DO IT", "<you> DO IT", "I need you to DO IT",
    "[it's] time to DO IT", "(make sure to|remember to|be sure to) DO IT", "help me [to] DO IT", "go and DO IT",
    "(what I want is to|my plan is to|the next step is to|all I want is to) DO IT", "let me DO IT", "let us DO IT",
    "IT: DO that (one|thing)", "for IT: DO it", "(there is|here is) IT to DO",
    "IT is what (I want|we have) to DO",
    "(how do I|how can I|can I|may I|can we) DO IT", "(who can|can someone|can anybody) DO IT",
    "(have someone|get someone to|tell someone to) DO IT", "(somebody|someone) (should|has to|needs to) DO IT",
    "(try to|you can|you should|you may) DO IT", "(are you able to|is there a way to|will you) DO IT",
    "I was (going|about) to DO IT", "(we should|I should|I must|we must|it's best to) DO IT",
    "(if you can|if it's possible|if you have a minute|when you're ready), DO IT", "why not DO IT",
    "(it would be great|it's necessary|it's important|it makes sense) to DO IT", "what about IT, DO it",
    "(I wonder if you can|could it be possible to|would it be ok to) DO IT", "the best thing [now] is to DO IT",
    "(nobody has|I didn't have) the time to DO IT", "it can't wait[:|,] DO IT", "I forgot to DO IT",
    "we need someone who can DO IT")))
_HELD = ("go ahead and DO IT", "would you kindly DO IT", "let's DO IT", "I was hoping you'd DO IT",
"how about we DO IT",
    "IT is the one to DO", "it's IT that you should DO", "the task is to DO IT")


def composed(
    rng: random.Random, split: str, thing: Optional[list[str]] = None, verb: Optional[list[str]] = None
) -> Concept:
    """A tool made of a verb, a thing and up to four parameters.

    Args:
        rng: where chance comes from.
        split: "train", or "unseen": things that no training prompt holds.
        thing, verb: rows of the tables above, to make a neighbour of another tool.
    """
    verb = verb or rng.choice(_VERBS)
    thing = thing or composed_thing(rng, split)
    noun, noun_ko = thing[0], thing[1] if len(thing) > 1 else ""
    names = verb[0].split()
    stem = noun.replace(" ", "_").replace("-", "_")
    params = _some_params(rng)
    doing, it = f"({verb[1]})", f"(the|the|my|our|this) {noun}"
    return Concept(
        key=f"{names[0]} {noun}",
        domain="composed",
        names=tuple([f"{n}_{stem}" for n in names] + [f"{stem}_{names[0]}"]),
        about=_abouts(names, noun),
        say=tuple(shape.replace("DO", doing).replace("IT", it) for shape in _SAY),
        held=tuple(shape.replace("DO", doing).replace("IT", it) for shape in _HELD),
        ko=_korean(noun_ko, verb[2]),
        params=params,
        required=tuple(p.key for p in params if rng.random() < 0.4),
    )


def _abouts(names: list[str], noun: str) -> tuple[str, ...]:
    first, last = names[0].replace("_", " "), names[-1].replace("_", " ")
    return (f"{_third(first)} the {noun}.", f"{last.capitalize()} the {noun}.", f"For the {noun}: {first}.")


# Korean verbs as `_VERBS` ends them -> as other endings follow; "-해" is "-하" without being told.
_STEMS = {"멈춰": "멈추", "열어": "열", "닫아": "닫", "고쳐": "고치", "채워": "채우", "비워": "비우",
    "먹이 줘": "먹이 주", "물 줘": "물 주", "데워": "데우", "식혀": "식히", "옮겨": "옮기", "내려받아": "내려받",
    "빌려": "빌리", "숨겨": "숨기", "올려": "올리", "내려": "내리", "내보내": "내보내"}


def _stem(verb: str) -> str:
    """What an ending like "고 싶어" or "기" is put after: "열" for "열어"."""
    return verb[:-1] + "하" if verb.endswith("해") else _STEMS[verb]


def _korean(noun: str, verb: str) -> tuple[str, ...]:
    """Korean shapes for a thing with a Korean name; `줘` that a verb ends in isn't said twice. The last is for tests."""
    if not noun:
        return ()
    object_, own = noun + _object_particle(noun), verb.endswith("줘")
    give, ask = ("", "") if own else (spell("<줘>"), spell("<줄래>"))
    please, stem = spell("<부탁>"), "|".join(map(_stem, verb.split("|")))
    return (f"{object_} ({verb}){give}", f"{noun} ({verb}){give}", f"{noun} 좀 ({verb}){give}",
        f"(지금|이제|빨리) {noun} ({verb}){give}", f"(우리|내|이|저) {noun} ({verb}){give}",
        f"({object_}|{noun}) ({verb}){ask}", f"({object_}|{noun}) 좀 ({verb}){ask}",
        f"({object_}|{noun}) ({stem})(고 싶어|고 싶은데|고 싶어요|고 싶습니다)",
        f"({object_}|{noun}|우리 {noun}) ({verb})(야 해|야 돼|야겠어|야 할 것 같아|야 합니다)",
        f"{noun} ({stem})(기|자|기 {please})", f"({verb}){ask}, {noun}", f"{noun}, (이거|그거) ({verb}){ask}",
        f"(혹시|미안한데|저기,) {object_} ({verb}){ask}", f"({object_}|{noun}) ({verb})도 (될까?|돼?|되나요?)",
        f"({object_}|{noun}) (좀|어서|얼른|바로) ({verb}){ask}", f"(여기|저쪽) 있는 {noun} ({verb}){ask}",
        f"{object_} ({stem})(게 해|도록 해){spell('<줄래>')}",
        f"{noun} 말인데 ({verb}){give}")


def composed_thing(rng: random.Random, split: str) -> list[str]:
    """A thing of the table, or one that nobody has heard of. `split` decides the half."""
    while True:
        thing = rng.choice(THINGS) if rng.random() < 0.6 else [" ".join(_words(rng, [1, 2, 2], split))]
        if (side(thing[0]) == "test") == (split == "unseen"):
            return thing


def _words(rng: random.Random, count: list[int], split: str = "train") -> list[str]:
    return [invented(rng, "train" if split == "train" else None) for _ in range(rng.choice(count))]


def is_unseen(concept: Concept) -> bool:
    """Whether this composed concept is about a thing that training never names."""
    return concept.domain == "composed" and side(concept.key.partition(" ")[2]) == "test"


def relatives(concept: Concept, rng: random.Random) -> tuple[list[str], list[str]]:
    """(thing, verb) of a composed concept's nearest neighbour: the same thing, or the same verb, but not both."""
    verb, _, noun = concept.key.partition(" ")
    rows = [row for row in _VERBS if row[0].split()[0] == verb]
    things = [row for row in THINGS if row[0] == noun] or [[noun]]
    if rng.random() < 0.6:
        return things[0], rng.choice([row for row in _VERBS if row not in rows])
    return [], rows[0]


def _some_params(rng: random.Random) -> tuple[Param, ...]:
    chosen: list[Param] = []
    groups: set[str] = set()
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 2, 3, 3, 4])):
        group, param = rng.choice(COMPOSED) if rng.random() < 0.65 else _free_param(rng)
        names = {n for p in chosen for n in p.names}
        if group not in groups and not names & set(param.names):
            groups.add(group)
            chosen.append(param)
    return tuple(chosen)


def _free_param(rng: random.Random) -> tuple[str, Param]:
    """A parameter with any name at all, which the user says: `basket_level` and "basket level 7"."""
    words = _words(rng, [1, 1, 2])
    said, key = " ".join(words), "_".join(words)
    kind = rng.choice(["int:1:99", "int:1:999", "float:1:50", "word", "phrase:1:2", "code", "enum", "enum"])
    options = tuple(dict.fromkeys(_words(rng, [2, 3, 4]))) if kind == "enum" else ()
    clauses = [f" with {said} {{{key}}}", f", {said} {{{key}}}", f" with [a|the] {said} (of|set to) {{{key}}}",
        f" and set the {said} to {{{key}}}", f", the {said} is {{{key}}}", f", {said}: {{{key}}}",
        f" and use {{{key}}} as the {said}"]
    held = [f" where the {said} is {{{key}}}", f", take {{{key}}} for the {said}"]
    return "free", Param(key, kind, (key,), (f"The {said}.", f"{said.capitalize()}."), tuple(clauses), tuple(held),
        (f"{said} {{{key}}} ",), (), options)


def _third(verb: str) -> str:
    head, _, rest = verb.partition(" ")
    ending = "es" if head.endswith(("sh", "ch", "s", "x")) else "s"
    return f"{head}{ending} {rest}".strip().capitalize()


def _object_particle(word: str) -> str:
    """을 after a final consonant, 를 after a vowel."""
    last = ord(word[-1]) - 0xAC00
    return "을" if 0 <= last < 11172 and last % 28 else "를"
