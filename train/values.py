"""What people put into calls: names, places, times, amounts, free text, in English and Korean, in two disjoint halves.

Each value has two sides, what the user *says* and the *value* that belongs into the call: "half past seven in the
evening" and "19:30". A model can only be tested on values that it never met, so every pool of words is cut in two by
a checksum of the word (`side`): "test" values are built from words that no "train" value holds. Numbers and times are
not cut: there are too few of them.

Standard library only.
"""

# ruff: noqa: SIM905  (a pool of words reads better as text)

from __future__ import annotations

import datetime as dt
import random
import re
import zlib
from typing import Any, Callable, Optional

Said = tuple[str, Any]  # what the user says, what belongs into the call


def listed(text: str) -> list[str]:
    """The entries of a table written with bars; line breaks are spaces."""
    return [" ".join(entry.split()) for entry in text.split("|")]


MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
DAYS_KO = ["월요일", "화요일", "수요일", "목요일", "금요일", "토요일", "일요일"]
NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()

FIRST = """Aaron Abigail Adam Aisha Alan Alice Amara Amir Amy Ana Andrea Andrew Anna Anton Arjun Astrid Ava Beatriz
Ben Bianca Boris Brenda Brian Camila Carl Carla Carmen Carol Cecilia Charles Chloe Clara Colin Daniel Daria David
Deepa Diana Diego Dmitri Dora Edgar Elena Elias Eliza Ella Emil Emma Eric Esther Eva Farah Fatima Felix Fiona Frank
Freya Gabriel George Gina Grace Greta Gustav Hana Hannah Harold Hassan Heidi Helen Henry Hugo Ian Ibrahim Ida Igor
Ines Ingrid Irene Isaac Ivan Jack Jacob Jamal James Jana Jane Jasmine Javier Jin Joan Joel John Jonas Jorge Joseph
Julia Karen Karim Karl Kate Keiko Kenji Kevin Kofi Laila Lara Lars Laura Lea Leo Liam Lina Linda Louis Lucas Lucia
Luis Luke Magda Marco Maria Marta Martin Mateo Maya Mei Mia Miguel Milan Mina Mira Mohamed Monica Nadia Naomi Nathan
Nia Nicole Nils Nina Noah Nora Olga Oliver Omar Oscar Pablo Paula Pedro Peter Petra Philip Priya Rachel Ralph Ravi
Rita Robert Rosa Ruth Ryan Sam Samira Sara Sasha Sean Silvia Simon Sofia Stella Steven Susan Sven Tamara Tara Thomas
Tina Tomas Tom Uma Vera Victor Viola Walter Wei Yara Yuki Yusuf Zara Zoe""".split()
LAST = """Abbott Adams Aguilar Ahmed Allen Andersen Baker Banerjee Barnes Bauer Becker Bell Bennett Berg Bianchi
Black Bloom Bouchard Brandt Brooks Brown Burke Campbell Cardoso Carter Castro Chandra Chen Choi Clark Cohen Collins
Conti Cook Cooper Costa Cruz Dalton Das Davis Dean Delgado Diaz Dixon Dubois Duarte Edwards Ellis Engel Evans Farrell
Ferrari Fischer Fisher Flores Fontaine Ford Foster Fox Fraser Fuentes Garcia Gibson Gomez Gordon Graham Grant Green
Gupta Haas Hall Hansen Harris Hart Hayes Herrera Hill Holm Hughes Hunt Ito Ivanov Jackson Janssen Jensen Johnson
Jones Kaya Keller Kelly Khan Kim King Klein Knight Kowalski Kumar Lane Larsen Laurent Lee Lehmann Lewis Lin Lindgren
Lopez Lund Marino Martin Martinez Mason Mendes Meyer Miller Mitchell Moore Morales Moreau Morgan Morris Mwangi
Nakamura Nguyen Nielsen Novak Ochoa Okafor Olsen Ortiz Osman Owens Park Parker Patel Pereira Perez Petrov Popov
Porter Powell Price Quinn Ramirez Reed Reyes Rhodes Richter Rivera Robinson Romano Rossi Russo Ryan Santos Sato
Schmidt Schultz Scott Shah Silva Singh Smith Soto Stone Suzuki Tanaka Taylor Thompson Torres Tran Turner Vargas Vega
Vogel Wagner Walker Wallace Ward Watson Weber West White Williams Wilson Wolf Wong Wood Wright Yamada Yang Young
Zhang Zimmermann""".split()
PLACES = listed("""Accra|Amsterdam|Ankara|Athens|Auckland|Austin|Baltimore|Bangkok|Barcelona|Basel|Beijing|Bergen|
Berlin|Bogota|Bologna|Bordeaux|Boston|Brisbane|Brussels|Budapest|Buenos Aires|Cairo|Calgary|Cape Town|Cardiff|
Casablanca|Chicago|Cologne|Copenhagen|Cork|Dakar|Dallas|Delhi|Denver|Dresden|Dubai|Dublin|Edinburgh|Florence|
Frankfurt|Geneva|Genoa|Glasgow|Granada|Graz|Hamburg|Hanoi|Havana|Helsinki|Houston|Istanbul|Jakarta|Kyoto|Lagos|Leeds|
Leipzig|Lima|Lisbon|Liverpool|London|Los Angeles|Lyon|Madrid|Malaga|Manchester|Manila|Marseille|Melbourne|Mexico City|
Miami|Milan|Montreal|Moscow|Mumbai|Munich|Nairobi|Naples|New York|Nice|Oporto|Osaka|Oslo|Ottawa|Palermo|Paris|Perth|
Philadelphia|Phoenix|Pisa|Portland|Prague|Quebec|Quito|Reykjavik|Riga|Rome|Rotterdam|San Diego|San Francisco|Santiago|
Sarajevo|Seattle|Seoul|Seville|Shanghai|Singapore|Sofia|Stockholm|Stuttgart|Sydney|Tallinn|Tampa|Tokyo|Toronto|
Toulouse|Trieste|Tunis|Turin|Utrecht|Valencia|Vancouver|Venice|Vienna|Vilnius|Warsaw|Wellington|York|Zagreb|Zurich""")
SIGHTS = """Museum Park Hotel Cafe Station Restaurant Airport Library University Bridge Square Market Theatre
Hospital Stadium Castle Harbour Garden Tower Gallery Mall School Church Pharmacy Bakery Clinic Beach""".split()
STREETS = "Street Avenue Road Lane Drive Boulevard Way Court".split()
KINDS = listed("""coffee shops|gas stations|pharmacies|restaurants|bookstores|parks|hotels|supermarkets|gyms|
pizza places|libraries|museums|banks|bakeries|bars|charging stations|hardware stores|bike shops|dentists|vegan food|
parking|cinemas|playgrounds|post offices|flower shops""")
EVENTS = listed("""meeting|dentist appointment|team sync|lunch|dinner|gym session|doctor appointment|phone call|
interview|birthday party|standup|design review|workshop|study group|haircut|yoga class|movie night|project kickoff|
parent evening|flight|budget review|book club|car service|piano lesson|code review|vet visit|board meeting|picnic|
rehearsal|training|barbecue|house viewing|wedding|retrospective|onboarding|breakfast|eye exam|football match|
town hall|farewell party""")
ITEMS = listed("""milk|eggs|bread|butter|rice|pasta|olive oil|tomatoes|onions|garlic|apples|bananas|oranges|lemons|
potatoes|carrots|spinach|chicken|salmon|tofu|yoghurt|cheese|flour|sugar|salt|pepper|tea|honey|oats|cereal|batteries|
light bulbs|toilet paper|soap|shampoo|toothpaste|sponges|paper towels|dog food|cat litter|chocolate|almonds|lentils|
mushrooms|orange juice|sparkling water|ketchup|mustard|basil|ginger|avocados|grapes|cookies|ice cream|napkins|candles|
tape|envelopes|screws|a notebook|blue pens|socks|sunscreen|vitamins""")
TASKS = listed("""call the bank|water the plants|pay the rent|pick up the kids|buy stamps|renew the passport|
fix the bike|clean the garage|send the invoice|return the books|book the flights|back up the laptop|walk the dog|
take the medicine|charge the camera|change the filter|sign the contract|order new glasses|feed the neighbour's cat|
check the oven|file the taxes|cancel the subscription|print the tickets|iron the shirts|defrost the freezer|
mow the lawn|ring the plumber|update the slides|reply to the landlord|wash the car|stretch|take out the trash|
submit the report|hang the laundry""")
SONGS_A = """Silver Broken Midnight Golden Paper Electric Distant Crimson Hollow Velvet Frozen Burning Little Lonely
Endless Quiet Neon Wild Sacred Blue Falling Hidden Summer Winter Northern Glass Wooden Stolen Secret Purple""".split()
SONGS_B = """River Dreams Highway Heart Garden Lights Shadows Moon Ocean Letters Fire Mirror Train Rain Horses Wings
Stars Thunder Home Circus Kingdom Echo Island Memory Window Desert Parade Roses Storm Voices""".split()
GENRES = listed("""jazz|rock|classical|hip hop|folk|techno|blues|country|reggae|soul|metal|ambient|pop|opera|funk|
lo-fi""")
WORDS = """account action address advice agenda album amber answer apple archive arrow artist autumn avenue badge
balance balloon banner barrel basket beacon beetle bicycle blanket blossom border bottle branch breeze bridge broken
bronze bucket budget butter button cabin cactus camera canal candle canvas carbon carpet castle cedar cellar chain
chapter charge cherry chimney circle citizen clever cliff clock cloud clover cobalt coast collar comet compass
concert copper coral corner cotton county cousin cradle crater credit cricket crisp crown crystal curtain custom
dagger daily dancer dawn decade deposit desert detail diamond dinner dolphin domain double dragon drawer dusty eager
early eagle earth editor elbow elegant ember engine error evening exact fabric factor falcon family fancy feather
fence fern festival fiber figure final finger flavor flight flower focus folder forest formal fossil fountain fragile
freedom frozen future galaxy gallon gentle ginger glacier global goose grammar granite grape gravel guitar hammer
harbor harvest hazel helmet herald hidden hollow honest horizon humble hunter island ivory jacket jasmine jersey
jewel jigsaw journal jungle kernel kettle kitchen ladder lagoon lantern laptop laser launch lawyer leather legend
lemon letter level liberty linen liquid little lizard locket lumber lunar magnet mango manual maple marble margin
market meadow medal melody memory mentor metal mighty mineral minute mirror modern moment monitor morning motor
mountain muffin museum mustard narrow nature needle nickel noble normal novel number nutmeg oasis object ocean office
olive onward opera orange orbit orchid origin outer oxygen oyster paddle palace panel paper parade parcel parrot
pastel patrol pebble pelican pencil pepper permit picture pillow pioneer pirate planet plaster plaza pocket poem
policy portal potter powder prairie pretty prince printer prism profit project proper puzzle quarry quartz quick
quiet rabbit radar random ranger rapid ratio ready record reform region relay remote rescue result ribbon river
rocket royal rubber rustic sacred saddle safety salmon sample sandal satin scarlet season second secret sensor shadow
shelter signal silent silver simple sketch slogan smooth socket solar solid sonnet source spiral spring stable staple
steady stone storm strong studio summit sunset supply surface symbol system tablet talent target tavern temple tender
thunder ticket timber title tobacco toffee tower traffic travel treasure tribute trophy tulip tunnel turbine turtle
twenty umbrella uncle unique update upper urban useful valley vapor velvet vendor verse vessel victory village violet
vision visitor volume voyage wagon walnut warden water weekly whisper willow window winter wisdom wonder yellow zebra
zenith""".split()
NOTES = listed("""I will be {n} minutes late|see you {day}|please bring the {w}|the {w} {w} is ready|
don't forget the {w}|can we move it to {day}|thanks for the {w} {w}|I left the {w} in the {w}|let's meet at {p}|
the {w} report is attached|happy birthday {f}|{f} has the {w} {w}|we need {n} more {w}s|the {w} is broken again|
call me about the {w}|is the {w} still free?|I'm on my way to {p}|{f} said the {w} is fine|the meeting moved to {day}|
good luck with the {w}|who has the {w}|we found a {w} {w}|dinner is at {n}|running late, start without me|{w} {w} {w}|
the code is {n}{n}|ask {f} for the {w}|{p} was great|no {w} today|your {w} has arrived""")
FIRST_KO = """민수 지훈 서연 수진 현우 지민 예은 도윤 하은 준호 유진 은지 태현 소연 재민 나영 동욱 미경 성민 혜진
우진 가은 시우 다인""".split()
LAST_KO = "김 이 박 최 정 강 조 윤 장 임 한 오 서 신 권 황".split()
PLACES_KO = """서울역 부산역 강남역 홍대입구 인천공항 경복궁 남산타워 해운대 광안리 제주공항 명동 이태원 여의도 잠실
수원역 대전역 전주한옥마을 설악산 동대문 신촌 판교 광화문 을지로 성수동 대구역 울산 춘천 강릉 속초 여수""".split()
THINGS_KO = """회의 점심 약속 저녁 식사 운동 병원 예약 생일 파티 면접 발표 회식 요가 수업 팀 미팅 공부 모임 치과 진료
프로젝트 보고 가족 여행 고객 상담 영화 모임 독서 토론 등산 모임 월간 점검 우유 사기 빨래 널기 약 먹기 쓰레기 버리기
화분 물주기 전기세 내기""".split()
ITEMS_KO = """우유 계란 빵 쌀 사과 바나나 두부 김치 라면 양파 마늘 감자 당근 치즈 고추장 간장 참기름 휴지 비누 건전지
물티슈 딸기""".split()
MESSAGES_KO = listed("""지금 출발해|{n}분 늦어|곧 도착해|저녁에 보자|생일 축하해|회의 자료 보냈어|{p}에서 만나|
오늘은 못 가|내일 전화할게|우산 챙겨|{f}한테 물어봐|문 앞에 두세요|감사합니다|{p} 앞이야|조금만 기다려 줘|밥 먹었어?""")

_WORD = re.compile(r"(?<![{\w])(?:[a-zA-Z]{3,}|[가-힣]+)")  # what an invented word stands in for: no slot, no "a"


def side(text: str) -> str:
    """The half that a word belongs to: about one in seven is kept for testing. Decided by the word alone."""
    return "test" if zlib.crc32(text.lower().encode()) % 7 == 0 else "train"


NAMES = [*WORDS, *(name.lower() for name in (*FIRST, *LAST, *PLACES) if name.isalpha())]
KOREAN = [*FIRST_KO, *LAST_KO, *PLACES_KO, *THINGS_KO, *ITEMS_KO]
SYLLABLES = sorted({c for text in KOREAN for c in text if c >= "가"})
INVENTED = 0.4  # the share of values made of invented words, unless a source is told otherwise


def invented(rng: random.Random, split: Optional[str], korean: bool = False) -> str:
    """A word that nobody has met, in lower case: copying it takes reading, not remembering. split: None for any half."""
    while True:
        if korean:
            word = "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 4)))
        else:  # the beginning of one word and the end of another
            a, b = rng.choice(NAMES), rng.choice(NAMES)
            word = a[: rng.randint(1, len(a))] + b[rng.randint(1, len(b) - 1) :]
        if split in (None, side(word)) and (korean or len(word) > 2):
            return word


class Values:
    """A source of values of one half.

    Args:
        rng: where chance comes from.
        split: "train" or "test".
        now: the date and time that relative dates count from.
        invented: the share of values in which every word is one that there isn't.
    """

    def __init__(self, rng: random.Random, split: str, now: dt.datetime, invented: float = INVENTED) -> None:
        self.rng = rng
        self.split = split
        self.now = now
        self.invented = invented

    def say(self, kind: str, lang: str = "en") -> Said:
        """A value of this kind: one of the methods below, by name, with numeric limits after a colon (`int:1:30`)."""
        name, *limits = kind.split(":")
        if lang == "ko" and hasattr(self, name + "_ko"):
            name += "_ko"
        said: Said = getattr(self, name)(*limits)
        return said

    # --- words and names ------------------------------------------------------------------------------------------

    def pick(self, pool: list[str]) -> str:
        """One of the pool's entries in our half (any, when the pool has none there), sometimes in invented words."""
        text = self.rng.choice(_half(pool, self.split))
        return _WORD.sub(self._invented, text) if self.rng.random() < self.invented else text

    def _invented(self, word: re.Match[str]) -> str:
        new = invented(self.rng, self.split, korean=word.group() >= "가")
        return new.capitalize() if word.group()[0].isupper() else new

    def word(self) -> Said:
        return _same(self._word())

    def onoff(self) -> Said:
        on = self.rng.random() < 0.5
        return ("on" if on else "off"), on

    def onoff_ko(self) -> Said:
        on = self.rng.random() < 0.5
        return ("켜" if on else "꺼"), on

    def _word(self) -> str:
        return self.pick(WORDS)

    def first(self) -> Said:
        return _same(self.pick(FIRST))

    def last(self) -> Said:
        return _same(self.pick(LAST))

    def first_ko(self) -> Said:
        return _same(self.pick(FIRST_KO))

    def last_ko(self) -> Said:
        return _same(self.pick(LAST_KO))

    def person(self) -> Said:
        """Whom a message goes to: a first name, a full name, a relative."""
        x = self.rng.random()
        if x < 0.15:
            return _same(
                self.rng.choice(["Mum", "Dad", "my sister", "my brother", "the landlord", "my boss", "Grandma"])
            )
        first = self.first()[0]
        name = first if x < 0.65 else f"{first} {self.last()[0]}"
        return _same(name.lower() if self.rng.random() < 0.08 else name)

    def person_ko(self) -> Said:
        x = self.rng.random()
        if x < 0.3:
            return _same(self.rng.choice(["엄마", "아빠", "언니", "동생", "팀장님", "할머니", "선생님"]))
        return _same((self.pick(LAST_KO) if x < 0.7 else "") + self.pick(FIRST_KO))

    def place(self) -> Said:
        rng, x = self.rng, self.rng.random()
        town = self.pick(PLACES)
        if x < 0.35:
            return _same(town)
        if x < 0.5:
            return _same(f"{self.pick(KINDS)} {rng.choice(['in', 'near', 'around'])} {town}")
        if x < 0.7:
            street = f"{rng.randint(1, 999)} {self._word().capitalize()} {rng.choice(STREETS)}"
            return _same(street + rng.choice(["", f", {town}"]))
        owner = self.rng.choice(
            [self.last()[0], self._word().capitalize(), f"{self._word()} {self._word()}".title(), town]
        )
        return _same(f"{rng.choice(['', 'the '])}{owner} {rng.choice(SIGHTS)}")

    def place_ko(self) -> Said:
        return _same(self.pick(PLACES_KO))

    def city(self) -> Said:
        return _same(self.pick(PLACES))

    def city_ko(self) -> Said:
        return _same(self.pick(PLACES_KO))

    # --- free text ------------------------------------------------------------------------------------------------

    def phrase(self, least: str = "1", most: str = "3") -> Said:
        """A few words, as a subject, a label or a search, in some casing."""
        words = [self._word() for _ in range(self.rng.randint(int(least), int(most)))]
        return _same(self._case(" ".join(words)))

    def phrase_ko(self, *_: str) -> Said:
        return _same(" ".join(dict.fromkeys(self.pick(THINGS_KO) for _ in range(self.rng.randint(1, 2)))))

    def title(self) -> Said:
        """What a calendar entry is called."""
        x, event = self.rng.random(), self.pick(EVENTS)
        if x < 0.25:
            text = event
        elif x < 0.5:
            text = f"{event} with {self.first()[0]}"
        elif x < 0.75:
            text = f"{self._word()} {event}"
        else:
            text = f"{event} at {self._word().capitalize()} {self.rng.choice(SIGHTS)}" if x < 0.85 else self.phrase()[0]
        return _same(self._case(text, keep=0.65))

    def title_ko(self) -> Said:
        return self.phrase_ko()

    def task(self) -> Said:
        x = self.rng.random()
        if x < 0.5:
            return _same(self.pick(TASKS))
        verb = self.rng.choice("buy fix bring check order return collect clean sell paint".split())
        which = self.rng.choice(["the", "a", "my"])
        return _same(f"{verb} {which} {self._word()} {self._word() if x < 0.8 else ''}".strip())

    def task_ko(self) -> Said:
        return self.phrase_ko()

    def text(self) -> Said:
        """A message or a body: one sentence, sometimes with its full stop."""
        out = self.pick(NOTES)
        for slot, fill in (("{w}", self._word), ("{f}", lambda: self.first()[0]), ("{p}", lambda: self.pick(PLACES))):
            while slot in out:
                out = out.replace(slot, fill(), 1)
        out = out.replace("{day}", self.rng.choice([*DAYS, "tomorrow", "tonight"])).replace(
            "{n}", str(self.rng.randint(2, 59))
        )
        if self.rng.random() < 0.4:
            out = out[0].upper() + out[1:] + self.rng.choice(["", ".", "!"])
        return _same(out)

    def text_ko(self) -> Said:
        out = self.pick(MESSAGES_KO).replace("{n}", str(self.rng.randint(2, 59)))
        return _same(out.replace("{p}", self.pick(PLACES_KO)).replace("{f}", self.pick(FIRST_KO)))

    def song(self) -> Said:
        x = self.rng.random()
        if x < 0.5:
            return _same(f"{self.pick(SONGS_A)} {self.pick(SONGS_B)}")
        return _same(
            self.rng.choice(
                [f"{self._word()} {self._word()}".title(), f"the {self._word()}".title(), self._word().title()]
            )
        )

    def song_ko(self) -> Said:
        return _same(self.pick(THINGS_KO) + " 노래")

    def genre(self) -> Said:
        return _same(self.rng.choice(GENRES))

    def item(self) -> Said:
        return _same(self.pick(ITEMS) if self.rng.random() < 0.75 else f"{self._word()} {self._word()}")

    def item_ko(self) -> Said:
        return _same(self.pick(ITEMS_KO))

    def items(self) -> Said:
        """A list of two to four things, told with commas and an "and"."""
        return self._enumerate(lambda: self.item()[0])

    def items_ko(self) -> Said:
        things = list(dict.fromkeys(self.pick(ITEMS_KO) for _ in range(self.rng.randint(2, 4))))
        return self.rng.choice([", ", "하고 "]).join(things), things

    def tags(self) -> Said:
        return self._enumerate(self._word)

    def tags_ko(self) -> Said:
        return self.items_ko()

    def people(self) -> Said:
        return self._enumerate(lambda: self.first()[0])

    def people_ko(self) -> Said:
        things = list(dict.fromkeys(self.pick(FIRST_KO) for _ in range(self.rng.randint(2, 3))))
        return self.rng.choice([", ", "하고 "]).join(things), things

    # --- addresses and codes --------------------------------------------------------------------------------------

    def email(self) -> Said:
        rng, first, last = self.rng, self.first()[0].lower(), self.last()[0].lower()
        shapes = [
            first,
            f"{first}.{last}",
            first[0] + last,
            first + last,
            f"{first}{rng.randint(1, 99)}",
            f"{first}_{last}",
            self._word(),
        ]
        host = rng.choice(["gmail.com", "example.com", "outlook.com", "yahoo.com"])
        if rng.random() < 0.6:
            host = self._word() + rng.choice([".com", ".org", ".net", ".io", ".co.uk", ".edu", ".de", ".kr"])
        return _same(f"{rng.choice(shapes)}@{host}")

    def phone(self) -> Said:
        rng = self.rng
        a, b, c = rng.randint(200, 999), rng.randint(100, 999), rng.randint(0, 9999)
        shapes = [f"{a}-{b}-{c:04d}", f"({a}) {b}-{c:04d}", f"+1{a}{b}{c:04d}", f"{a}{b}{c:04d}", f"{a}.{b}.{c:04d}"]
        return _same(rng.choice([*shapes, f"+{rng.randint(2, 99)} {a} {b} {c:04d}", f"555-{c:04d}"]))

    def phone_ko(self) -> Said:
        return _same(f"010-{self.rng.randint(1000, 9999)}-{self.rng.randint(0, 9999):04d}")

    def code(self) -> Said:
        """An order number, a room, a flight: letters and digits."""
        rng = self.rng
        letters = "".join(rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
        digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 6)))
        return _same(rng.choice([letters + digits, f"{letters}-{digits}", digits, digits + letters, "#" + digits]))

    def pin(self) -> Said:
        return _same("".join(self.rng.choice("0123456789") for _ in range(self.rng.choice([4, 4, 6]))))

    def url(self) -> Said:
        before, after = self.rng.choice(["", "www.", "https://"]), self.rng.choice([".com", ".org", ".net", ".io"])
        return _same(
            before + self._word() + after + self.rng.choice(["", f"/{self._word()}", f"/{self._word()}/{self._word()}"])
        )

    def file(self) -> Said:
        stem = self.rng.choice(
            [self._word(), f"{self._word()}_{self._word()}", f"{self._word()}-{self.rng.randint(1, 99)}"]
        )
        return _same(f"{stem}.{self.rng.choice('pdf txt docx jpg png csv zip mp3 md xlsx'.split())}")

    # --- numbers --------------------------------------------------------------------------------------------------

    def int(self, least: str = "1", most: str = "30") -> Said:
        n = self.rng.randint(int(least), int(most))
        said = NUMBER_WORDS[n] if 0 <= n < len(NUMBER_WORDS) and self.rng.random() < 0.15 else str(n)
        return said, n

    def int_ko(self, least: str = "1", most: str = "30") -> Said:
        n = self.rng.randint(int(least), int(most))
        return str(n), n

    def round(self, least: str = "5", most: str = "100") -> Said:
        """A whole number of the kind people choose: fives, tens, and sometimes any."""
        n = self.rng.randint(int(least), int(most))
        n = n if self.rng.random() < 0.4 else max(int(least), n // 5 * 5)
        return str(n), n

    def float(self, least: str = "0", most: str = "100") -> Said:
        n = self.rng.randint(int(least) * 10, int(most) * 10)
        value = (n if n % 10 else n + 5) / 10
        return str(value), value

    # --- times ----------------------------------------------------------------------------------------------------

    def time(self) -> Said:
        """A time of day, as HH:MM."""
        hour, minute = self.rng.randint(5, 23), self._minute()
        return self._clock(hour, minute), f"{hour:02d}:{minute:02d}"

    def time_ko(self) -> Said:
        hour, minute = self.rng.randint(1, 23), self.rng.choice([0, 0, 30, 15, 45])
        return self._clock_ko(hour, minute), f"{hour:02d}:{minute:02d}"

    def date(self) -> Said:
        """A day, as YYYY-MM-DD, most often told relative to today."""
        said, day = self._day()
        return said, day.isoformat()

    def date_ko(self) -> Said:
        said, day = self._day_ko()
        return said, day.isoformat()

    def when(self) -> Said:
        """A day and a time, as YYYY-MM-DDTHH:MM:SS."""
        said, day = self._day()
        hour, minute = self.rng.randint(6, 22), self._minute()
        clock = self._clock(hour, minute)
        on = said if said[0] in "tin" and not said[0].isupper() else f"on {said}"
        said = self.rng.choice([f"{on} at {clock}"] * 3 + [f"at {clock} {on}"])
        return said, f"{day.isoformat()}T{hour:02d}:{minute:02d}:00"

    def when_ko(self) -> Said:
        said, day = self._day_ko()
        hour, minute = self.rng.randint(6, 22), self.rng.choice([0, 0, 30])
        return f"{said} {self._clock_ko(hour, minute)}", f"{day.isoformat()}T{hour:02d}:{minute:02d}:00"

    def _minute(self) -> int:
        return self.rng.choice([0, 0, 0, 30, 30, 15, 45, self.rng.randint(1, 59)])

    def _clock(self, hour: int, minute: int) -> str:
        rng, twelve, half = self.rng, hour % 12 or 12, "am" if hour < 12 else "pm"
        x = rng.random()
        if x < 0.15:
            return f"{hour:02d}:{minute:02d}"
        if hour == 12 and minute == 0 and x < 0.6:
            return "noon"
        half = rng.choice(
            [
                half,
                f" {half}",
                f" {half.upper()}",
                {"am": " in the morning"}.get(half, " in the evening" if hour > 17 else " in the afternoon"),
            ]
        )
        if minute == 30 and x > 0.9:
            return f"half past {twelve}{half}"
        return f"{twelve}{half}" if minute == 0 and x < 0.8 else f"{twelve}:{minute:02d}{half}"

    def _clock_ko(self, hour: int, minute: int) -> str:
        tail = "" if minute == 0 else " 반" if minute == 30 and self.rng.random() < 0.6 else f" {minute}분"
        return f"{'오전' if hour < 12 else '오후'} {hour % 12 or 12}시{tail}"

    def _day(self) -> tuple[str, dt.date]:
        rng, today, x = self.rng, self.now.date(), self.rng.random()
        if x < 0.22:
            return "tomorrow", today + dt.timedelta(1)
        if x < 0.32:
            return "today", today
        if x < 0.4:
            return "the day after tomorrow", today + dt.timedelta(2)
        if x < 0.5:
            n = rng.randint(2, 10)
            return f"in {rng.choice([str(n), NUMBER_WORDS[n]])} days", today + dt.timedelta(n)
        if x < 0.72:
            weekday = rng.randrange(7)
            ahead = (weekday - today.weekday()) % 7 or 7
            return rng.choice(["", "", "next ", "this coming "]) + DAYS[weekday], today + dt.timedelta(ahead)
        day = today + dt.timedelta(rng.randint(3, 200))
        return self._calendar(day), day

    def _calendar(self, day: dt.date) -> str:
        if self.rng.random() < 0.15:
            return day.isoformat()
        month, ending = MONTHS[day.month - 1], _ordinal(day.day)
        said = self.rng.choice(
            [
                f"{month} {day.day}",
                f"{month} {day.day}{ending}",
                f"{day.day} {month}",
                f"the {day.day}{ending} of {month}",
            ]
        )
        return said if day.year == self.now.year and self.rng.random() < 0.7 else f"{said}, {day.year}"

    def _day_ko(self) -> tuple[str, dt.date]:
        rng, today, x = self.rng, self.now.date(), self.rng.random()
        if x < 0.6:
            n = rng.randrange(3)
            return ["오늘", "내일", "모레"][n], today + dt.timedelta(n)
        if x < 0.8:
            weekday = rng.randrange(7)
            return DAYS_KO[weekday], today + dt.timedelta((weekday - today.weekday()) % 7 or 7)
        day = today + dt.timedelta(rng.randint(3, 60))
        year = "" if day.year == today.year else f"{day.year}년 "
        return f"{year}{day.month}월 {day.day}일", day

    # --- shapes ---------------------------------------------------------------------------------------------------

    def _case(self, text: str, keep: float = 0.5) -> str:
        x = self.rng.random()
        if x < keep:
            return text
        return text.title() if x > 0.85 else text[0].upper() + text[1:]

    def _enumerate(self, make: Callable[[], str]) -> Said:
        things = list(dict.fromkeys(make() for _ in range(self.rng.randint(2, 4))))
        if len(things) == 1:
            return things[0], things
        last = self.rng.choice([" and ", " and ", ", and ", ", "]) if len(things) > 2 else " and "
        return ", ".join(things[:-1]) + last + things[-1], things


_HALVES: dict[tuple[int, str], list[str]] = {}


def _half(pool: list[str], split: str) -> list[str]:
    key = (id(pool), split)
    if key not in _HALVES:
        _HALVES[key] = [word for word in pool if side(word) == split] or pool
    return _HALVES[key]


def _same(text: str) -> Said:
    return text, text


def _ordinal(n: int) -> str:
    return "th" if 10 < n < 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
