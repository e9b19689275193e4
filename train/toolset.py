"""The tools that the embedded model learns from: about forty by hand, and as many more as one likes by composition.

A `Concept` is a tool before it has a name: what it does, how people ask for it (patterns of `phrases`), what it takes,
and several names and descriptions for all of that. A prompt declares an `Instance`: one choice of those names. Since
names change from prompt to prompt, the only way to write the right one is to read the declaration.

`composed` makes concepts out of verbs, things and parameters ("descale the espresso machine for 12 minutes"); some of
its names are words of no language at all. Hand-written concepts teach how people talk, composed ones teach to read.

Standard library only.
"""

# Tables, a tool to a paragraph: formatted they take twice the lines.
# fmt: off
from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Optional

from edge.train.phrases import slots
from edge.train.values import WORDS, Said, Values, side

Json = dict[str, Any]

_TYPES = {"int": "INTEGER", "round": "INTEGER", "float": "NUMBER", "bool": "BOOLEAN", "onoff": "BOOLEAN",
    "items": "ARRAY", "tags": "ARRAY", "people": "ARRAY"}


@dataclass(frozen=True)
class Param:
    """One parameter of a concept.

    key: its name in patterns. kind: a method of `Values` with limits, or "bool", or "enum". names, about: words and
    descriptions to choose from. clauses: patterns that mention it; a parameter with clauses is optional, one without
    stands in the concept's own patterns. A bool has clauses for yes and for no. held: clauses kept for testing.
    options: an enum's values, options_ko: how Koreans say them.
    """

    key: str
    kind: str
    names: tuple[str, ...]
    about: tuple[str, ...]
    clauses: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    ko: tuple[str, ...] = ()
    no: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    options_ko: tuple[str, ...] = ()

    def say(self, values: Values, lang: str) -> Said:
        if self.kind == "enum":
            at = values.rng.randrange(len(self.options))
            said = self.options_ko[at] if lang == "ko" and self.options_ko else self.options[at].replace("_", " ")
            return said, self.options[at]
        return values.say(self.kind, lang)

    def declare(self, about: str) -> Json:
        """The property in a declaration, in Google's upper-case types."""
        declared: Json = {"type": _TYPES.get(self.kind.split(":")[0], "STRING"), "description": about}
        if declared["type"] == "ARRAY":
            declared["items"] = {"type": "STRING"}
        if self.options:
            declared["enum"] = list(self.options)
        return declared


@dataclass(frozen=True)
class Concept:
    """A tool before it has a name.

    key: unique. domain: neighbours share it. names, about: to choose from. say: patterns for training, held: patterns
    for testing, ko: Korean patterns. unseen: kept out of training altogether. near: keys too alike to stand in
    one prompt. required: optional parameters that the declaration asks for all the same.
    """

    key: str
    domain: str
    names: tuple[str, ...]
    about: tuple[str, ...]
    say: tuple[str, ...]
    held: tuple[str, ...]
    ko: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    unseen: bool = False
    near: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    @property
    def dated(self) -> bool:
        """Needs to know what day it is."""
        return any(p.kind in ("date", "when") for p in self.params)


@dataclass(frozen=True)
class Instance:
    """A concept under the names of one prompt: `names` maps its parameters' keys to declared names."""

    concept: Concept
    name: str
    names: dict[str, str]
    declaration: Json = field(hash=False)


def instantiate(concept: Concept, rng: random.Random, rename: float) -> Instance:
    """Choose names. rename: how likely each departs from the first of its list."""
    free = rng.random() < 0.04 and rename > 0  # a name without a meaning: only the description tells
    name = _opaque(rng) if free else _choose(rng, concept.names, rename)
    style = rng.random() if rng.random() < rename else 1.0
    names: dict[str, str] = {}
    for param in concept.params:
        chosen = _styled(_choose(rng, param.names, rename * 0.8), style)
        names[param.key] = chosen if chosen not in names.values() else _styled(param.key, style)
    properties = {names[p.key]: p.declare(_choose(rng, p.about, rename)) for p in concept.params}
    parameters: Json = {"type": "OBJECT", "properties": properties}
    required = [names[p.key] for p in concept.params if not p.clauses or p.key in concept.required]
    if required:
        parameters["required"] = required
    name = _styled(name, style)
    function = {"name": name, "description": _choose(rng, concept.about, rename), "parameters": parameters}
    return Instance(concept, name, names, {"type": "function", "function": function})


def _choose(rng: random.Random, options: tuple[str, ...], rename: float) -> str:
    return rng.choice(options) if rng.random() < rename else options[0]


def _styled(name: str, style: float) -> str:
    """snake_case as it is; now and then camelCase, kebab-case or with a dot."""
    if "_" not in name or style > 0.3:
        return name
    head, *rest = name.split("_")
    if style < 0.15:
        return head + "".join(part.capitalize() for part in rest)
    return "-".join([head, *rest]) if style < 0.22 else f"{head}.{'_'.join(rest)}"


def _opaque(rng: random.Random) -> str:
    word = rng.choice(WORDS)
    return rng.choice([f"fn_{word}", f"tool_{rng.randint(1, 99)}", f"{word}_{rng.choice(WORDS)}",
        f"do_{rng.randint(10, 999)}"])


# --- by hand ----------------------------------------------------------------------------------------------------------


def P(key: str, kind: str, names: str, about: str, **more: Any) -> Param:
    lists = {k: tuple(v) for k, v in more.items()}
    return Param(key, kind, tuple(names.split()), tuple(about.split("|")), **lists)


def C(key: str, domain: str, names: str, about: str, say: list[str], held: list[str], **more: Any) -> Concept:
    more["params"] = tuple(more.get("params", ()))
    more["ko"], more["near"] = tuple(more.get("ko", ())), tuple(more.get("near", "").split())
    return Concept(key, domain, tuple(names.split()), tuple(about.split("|")), tuple(say), tuple(held), **more)


_COLORS = ("red", "blue", "green", "yellow", "purple", "white", "orange", "pink")
_COLORS_KO = ("빨간색", "파란색", "초록색", "노란색", "보라색", "흰색", "주황색", "분홍색")
_ROOMS = ("kitchen", "bedroom", "living_room", "bathroom", "office", "hallway", "garage")
_ROOMS_KO = ("주방", "침실", "거실", "욕실", "서재", "복도", "차고")

MOBILE = [
    C("flashlight_on", "phone", "turn_on_flashlight enable_torch flashlight_on switch_on_flashlight torch_on",
      "Turns the flashlight on.|Switches on the torch.|Turn on the phone's flashlight.",
      ["(turn|switch|put) on (the|my) (flashlight|torch)", "(turn|switch|put) (the|my) (flashlight|torch) on",
       "(enable|activate|start|light up) (the|my) [phone's] (flashlight|torch)", "(flashlight|torch) on",
       "(it's|it is) [too|so|really] dark [in here|out here], (turn|switch) on (the|my) (flashlight|torch|light)",
       "I (need|want) (some|the|a bit of) [more] (light|flashlight)[ here]"],
      ["get the (flashlight|torch) going", "make my (phone|torch) (shine|glow)",
       "I can't see (a thing|anything), flashlight on",
       "let there be light with my (torch|flashlight)"],
      ko=["(손전등|플래시|후레쉬) 켜(줘| 줘|주세요)", "(손전등|플래시)(을|를) 켜 (줘|줄래)",
          "어두우니까 (손전등|플래시) 켜줘"], near="flashlight_off"),
    C("flashlight_off", "phone", "turn_off_flashlight disable_torch flashlight_off switch_off_flashlight torch_off",
      "Turns the flashlight off.|Switches off the torch.|Turn off the phone's flashlight.",
      ["(turn|switch|put) off (the|my) (flashlight|torch)", "(turn|switch|put) (the|my) (flashlight|torch) off",
       "(disable|deactivate|stop|kill) (the|my) [phone's] (flashlight|torch)", "(flashlight|torch) off",
       "it's bright enough [now|here], (turn|switch) off (the|my) (flashlight|torch|light)",
       "I (don't|do not) need (the|that) (flashlight|torch|light) [any more|anymore]"],
      ["shut [off|down] the (flashlight|torch)", "the (flashlight|torch) can go off [now]",
       "no more (torch|flashlight)[, thanks]"],
      ko=["(손전등|플래시|후레쉬) 꺼(줘| 줘|주세요)", "(손전등|플래시)(을|를) 꺼 (줘|줄래)"]),
    C("contact", "people", "create_contact add_contact new_contact save_contact contact_create",
      "Creates a contact in the phone's contact list.|Adds a person to the address book.|Saves a new contact.",
      ["(create|add|make) a [new] contact (for|named|called) {first} {last}",
       "(add|save|put) {first} {last} (to|in) my (contacts|phone book|contact list)",
       "(save|store) {first} {last} as a [new] contact", "new contact[:] {first} {last}",
       "I (need|want) to (add|save) {first} {last} as a contact"],
      ["put {first} {last} down in my address book", "I [just] met {first} {last}, keep (the|their) details",
       "remember {first} {last} for me"],
      ko=["{last}{first} 연락처(에|를) (추가해|저장해)(줘| 줘|주세요)"],
      params=[P("first", "first", "first_name given_name firstName name_first",
          "The first name of the contact.|Given name.|First name of the person."),
              P("last", "last", "last_name family_name surname",
                  "The last name of the contact.|Family name.|Surname of the person."),
              P("phone", "phone", "phone_number phone number mobile tel",
                  "The phone number of the contact.|Telephone number.|Their number.",
                clauses=[" with [the] [phone] number {phone}", ", [phone] number {phone}", ", phone {phone}",
                    ". (The|Their) [phone] number is {phone}"],
                held=[", reachable at {phone}", " who answers on {phone}"], ko=["전화번호 {phone} "]),
              P("email", "email", "email email_address mail e_mail",
                  "The email address of the contact.|E-mail address.|Their email.",
                clauses=[" with [the] email [address] {email}", ", email [address] {email}", ", mail {email}",
                    ". (The|Their) email [address] is {email}"],
                held=[", who writes from {email}", ", mailbox {email}"], ko=["이메일 {email} "])]),
    C("email", "messages", "send_email email_send write_email compose_email mail",
      "Sends an email.|Writes an e-mail and sends it.|Email someone.",
      ["(send|write|compose) an (email|e-mail|mail) to {to} (with [the] subject|titled|with the title|about) {subject}",
       "(send|write) {to} an (email|e-mail) (about|with [the] subject|titled|on) {subject}",
       "email {to} (about|with [the] subject|on) {subject}",
       "(send|compose) an (email|e-mail) to {to}[,] subject[:] {subject}",
       "new (email|e-mail) to {to}, subject {subject}"],
      ["shoot (an email|a mail) over to {to} with {subject} as the subject",
       "drop {to} a mail, the subject is {subject}",
       "let {to} know by email, heading {subject}"],
      ko=["{to}(에게|로) {subject} (제목으로|라는 제목으로) (이메일|메일) 보내(줘| 줘|주세요)"],
      params=[P("to", "email", "to recipient address to_address email",
          "The email address of the recipient.|Who gets it.|Recipient's address."),
              P("subject", "phrase:1:4", "subject title subject_line heading",
                  "The subject of the email.|Subject line.|What it is about."),
              P("body", "text", "body content text message", "The body of the email.|The text of the mail.|Content.",
                clauses=[" and [the] body {body}", " (saying|and say|and write) {body}", ", body[:] {body}",
                    " with the (message|text) {body}", ". The (body|text) (is|should be) {body}"],
                held=[" and the content {body}", ", and tell them {body}"], ko=["내용은 {body} "])]),
    C("map", "travel", "show_map open_map map_search display_map find_on_map",
      "Shows a location on the map.|Displays a place on a map.|Opens the map at a place.",
      ["show [me] {query} on (the|a|my) map", "(find|locate|look up|pull up|search for) {query} on (the|a|my) map",
       "[open|bring up|show me] (the|a) map (of|for) {query}",
       "where (is|are) {query}[?]", "can I see {query} on (the|a) map[?]", "(open|show) [the] maps for {query}"],
      ["I want to see where {query} is", "(display|point out) {query} on my map",
       "give me the map location of {query}", "map: {query}"],
      ko=["지도에서 {query} (보여|찾아)(줘| 줘|주세요)", "{query} (지도|위치) 보여(줘| 줘|주세요)",
          "{query} 어디(야|에 있어|인지 지도로 보여줘)"],
      params=[P("query", "place", "query location place search where",
          "The location to search for.|The place to show.|What to find: a place, a business or an address.")]),
    C("wifi", "phone", "open_wifi_settings wifi_settings show_wifi open_network_settings goto_wifi",
      "Opens the Wi-Fi settings.|Shows the wireless network settings.|Open Wi-Fi preferences.",
      ["(open|show me|show|launch|bring up) [the|my] (wifi|Wi-Fi|wireless) [network] settings",
       "(take me|go) to [the] (wifi|Wi-Fi) settings",
       "I (want|need) to (change|configure|check) (my|the) (wifi|Wi-Fi) [network|settings|connection]",
       "(wifi|Wi-Fi) settings"],
      ["display the (wifi|Wi-Fi) settings page", "my (wifi|Wi-Fi) is down, open its settings",
       "let me pick another (wifi|Wi-Fi) network"],
      ko=["와이파이 설정 (열어|보여)(줘| 줘|주세요)", "와이파이 설정(으로|창) 가(줘| 줘)"]),
    C("calendar", "planning", "create_calendar_event add_event calendar_add new_event schedule_event",
      "Creates a new calendar event.|Adds an appointment to the calendar.|Schedules something.",
      ["(schedule|set up|book|plan) [a|an|the] {title} {when}",
       "(create|make|add) a[ new] calendar (event|entry) (for|called|titled|named) {title} {when}",
       "(add|put) {title} (to|on|in) my calendar {when}", "{when}, (schedule|plan) {title}",
       "(create|make) an event (called|titled|named) {title} {when}",
       "new (event|appointment)[:] {title} {when}"],
      ["pencil in {title} {when}", "block time for {title} {when}", "I have {title} {when}, add it to my calendar",
       "my calendar needs {title} {when}"],
      ko=["{when}에 {title} 일정 (추가해|잡아|등록해)(줘| 줘|주세요)", "{when} {title} 일정에 넣어(줘| 줘)"],
      params=[P("title", "title", "title name summary event_title",
          "The title of the event.|What the event is called.|Name of the appointment."),
              P("when", "when", "datetime start start_time date_time when",
                  "The date and time of the event in the format YYYY-MM-DDTHH:MM:SS.|Start, as YYYY-MM-DDTHH:MM:SS.")]),
]

MORE = [
    C("alarm", "clock", "set_alarm create_alarm alarm_set new_alarm add_alarm",
      "Sets an alarm.|Creates an alarm for a time of day.|Wakes the user.",
      ["(set|create|add|make) [me] (an|a new) alarm (for|at) {time}", "wake me [up] at {time}",
       "I (need|want) (an|my) alarm (for|at) {time}", "alarm (at|for) {time}",
       "(get|wake) me up at {time}"],
      ["ring me at {time}", "make sure I'm awake at {time}", "{time} alarm"],
      ko=["{time}에 알람 (맞춰|설정해)(줘| 줘|주세요)", "{time}에 깨워(줘| 줘|주세요)",
          "{time} 알람 (맞춰|추가해)(줘| 줘)"],
      params=[P("time", "time", "time at alarm_time hour", "The time as HH:MM.|When it rings, HH:MM, 24 hours.|"
          "Time of day (HH:MM)."),
              P("label", "phrase:1:2", "label name title", "The label of the alarm.|What to call it.|A name for it.",
                clauses=[" (called|named|labelled) {label}", " and (call|label) it {label}",
                    " with [the] (label|name) {label}"], held=[", tag it {label}", ", name: {label}"],
                ko=["{label}(라는 이름으로| 이름으로) "])]),
    C("timer", "clock", "start_timer set_timer timer countdown begin_countdown",
      "Starts a timer.|Counts down some minutes.|Sets a kitchen timer.",
      ["(set|start|create) (a|the) [new] timer for {minutes} (minutes|min)",
       "(set|start) a {minutes} minute (timer|countdown)", "timer[ for] {minutes} (minutes|min)",
       "count down [from] {minutes} minutes"],
      ["remind me when {minutes} minutes are over", "give me {minutes} minutes on the clock"],
      ko=["{minutes}분 타이머 (맞춰|시작해|켜)(줘| 줘|주세요)", "타이머 {minutes}분 (맞춰|설정해)(줘| 줘|주세요)"],
      params=[P("minutes", "int:1:90", "minutes duration minutes_total length",
          "How many minutes.|Length in minutes.|Minutes to count down."),
              P("label", "phrase:1:2", "label name purpose", "What it is for.|Label of the timer.|A name.",
                clauses=[" for the {label}", " (called|named) {label}", " with [the] label {label}"],
                    held=[", the name is {label}"])]),
    C("reminder", "planning", "create_reminder add_reminder remind_me set_reminder new_reminder",
      "Creates a reminder.|Reminds the user of a task.|Adds a reminder for a day and time.",
      ["remind me to {task} {when}", "{when}, remind me to {task}", "(set|create|add) a reminder to {task} {when}",
       "(don't|do not) let me forget to {task} {when}"],
      ["nudge me {when} to {task}", "ping me {when} so that I {task}"],
      ko=["{when}에 {task} (알려|리마인드해)(줘| 줘|주세요)", "{when}에 {task} 잊지 않게 알려줘"],
      params=[P("task", "task", "task text what title", "What to remember.|The task.|Text of the reminder."),
              P("when", "when", "datetime when due remind_at",
                  "The date and time as YYYY-MM-DDTHH:MM:SS.|When, YYYY-MM-DDTHH:MM:SS.")]),
    C("todo", "planning", "add_task create_todo new_task task_add todo_add",
      "Adds a task to the to-do list.|Creates a to-do item.|New task.",
      ["(add|put) {task} (to|on) my (to-do|todo|task) list", "(create|add|make) a [new] (task|to-do|todo)[:] {task}",
       "new (task|to-do)[:] {task}", "I (have|need) to {task}, (add|put) it on my list"],
      ["jot down the task {task}", "my to-do list needs {task}"],
      params=[P("task", "task", "task title text item", "What is to be done.|The task.|Text of the item."),
              P("priority", "enum", "priority importance urgency", "How urgent it is.|Priority.", options=["low",
                  "medium", "high"],
                clauses=[" with {priority} priority", ", {priority} priority", ", priority {priority}"],
                    held=[" and mark it {priority} priority"]),
              P("due", "date", "due due_date deadline", "The day as YYYY-MM-DD.|Deadline, YYYY-MM-DD.",
                  clauses=[", due {due}", " by {due}", ", deadline {due}"], held=[", it has to be done by {due}"])]),
    C("message", "messages", "send_message text_person send_text message_send send_sms",
      "Sends a text message.|Texts somebody.|Sends a message to a contact.",
      ["(text|message) {to}[:] {text}", "(send|write) a (text|message) to {to} (saying|that says|with) {text}",
       "(send|text|message) {to} [the message] {text}", "(tell|text) {to} [that] {text}",
       "(send|write) {to} a (message|text)[:] {text}"],
      ["let {to} know [that] {text}", "ping {to} with {text}", "{to} should get the message {text}"],
      ko=["{to}(한테|에게) {text}(라고) (문자|메시지) 보내(줘| 줘|주세요)",
          "{to}(한테|에게) {text}(라고) 전해(줘| 줘)"],
      params=[P("to", "person", "to recipient contact person name", "Who gets it.|The recipient.|Name of the contact."),
              P("text", "text", "text message body content", "The message.|What to say.|Text to send.")]),
    C("call", "people", "call_contact phone_call make_call dial start_call",
      "Calls a contact.|Starts a phone call.|Phones somebody.",
      ["(call|phone|ring) {who}", "(make|start) a [phone|video] call (to|with) {who}",
       "I (want|need) to (call|phone|speak to) {who}", "(dial|get) {who} on the phone"],
      ["give {who} a (ring|call)", "put me through to {who}"],
      ko=["{who}(한테|에게) 전화(해| 걸어)(줘| 줘|주세요)", "{who} 전화 연결해(줘| 줘)"],
      params=[P("who", "person", "name contact who person callee", "Whom to call.|Name of the contact.|The person.")]),
    C("note", "planning", "create_note add_note take_note save_note note",
      "Saves a note.|Writes a note.|Creates a note with a text.",
      ["(take|make|create|save|write) a note[:] {text}", "note [down] [that] {text}", "(write|jot) down[:] {text}",
       "new note[:] {text}"],
      ["keep in mind: {text}", "put this in my notes: {text}"],
      ko=["{text}(라고) 메모(해| 남겨)(줘| 줘|주세요)"],
      params=[P("text", "text", "text content body note", "The note.|What to write.|Content of the note."),
              P("title", "phrase:1:2", "title heading name", "Title of the note.|Heading.",
                  clauses=[", (titled|title) {title}", " and call it {title}", " under [the title] {title}"],
                      held=[", headline {title}"])]),
    C("shopping", "shopping", "add_to_shopping_list shopping_add add_groceries buy_list_add add_items",
      "Adds things to the shopping list.|Puts groceries on the list.|Items to buy.",
      ["(add|put) {items} (to|on) (my|the|our) (shopping|grocery) list",
       "(we|I) need [to buy|to get|some] {items}[, (add|put) (it|them) on the list]",
       "(buy|get|shopping list:) {items}"],
      ["we're out of {items}", "next time I shop, I want {items}"],
      ko=["장보기 목록에 {items} (추가해|넣어)(줘| 줘|주세요)", "{items} 사야 해, 목록에 추가해줘"],
      params=[P("items", "items", "items things products groceries", "What to buy.|The items.|List of products.")]),
    C("music", "media", "play_music play_song music_play start_music play_track",
      "Plays a song.|Plays music.|Starts playing a track.",
      ["play [me] [the song] {title}", "(I want to|let me) (hear|listen to) {title}", "put on [the song] {title}",
       "(start|play) [the track] {title}"],
      ["how about some {title}", "give me {title} on the speakers"],
      ko=["{title} (틀어|재생해|들려)(줘| 줘|주세요)"],
      params=[P("title", "song", "title song track song_title", "The title of the song.|What to play.|Track name."),
              P("artist", "last", "artist singer band by", "Who plays it.|The artist.|Band or singer.",
                  clauses=[" by {artist}", " (from|by) [the band] {artist}"], held=[", performer {artist}"]),
              P("shuffle", "bool", "shuffle random shuffled", "Whether to shuffle.|Random order.",
                  clauses=[" on shuffle", " in random order", ", shuffled"], no=[" without shuffle", " in order",
                      ", not shuffled"])]),
    C("playlist", "media", "play_playlist start_playlist playlist_play play_genre",
      "Plays a kind of music.|Starts a playlist of a genre.|Plays a genre.",
      ["play some {genre} [music]", "I (want|feel like) [some|listening to] {genre} music",
       "(put on|start) (a|some|my) {genre} (music|playlist)"],
      ["I'm in the mood for {genre} music", "a bit of {genre} music [please]"],
      params=[P("genre", "genre", "genre style kind", "The kind of music.|Genre.|Style."),
              P("volume", "round:5:100", "volume loudness level", "How loud, in percent.|Volume 0 to 100.",
                  clauses=[" at [a] volume [of] {volume}", " at {volume} percent [volume]"],
                      held=[", loudness {volume}"])], near="music"),
    C("volume", "media", "set_volume change_volume volume_set adjust_volume",
      "Sets the volume.|Changes how loud it is.|Volume of the device.",
      ["(set|change|turn|put) the (volume|sound) to {level} [percent]", "volume [to|at] {level}[%| percent]",
       "(turn|make) it (up|down|louder|quieter) to {level}[ percent]"],
      ["I want the sound at {level}", "{level} percent volume"],
      ko=["(볼륨|소리)(을|를| ) {level}(으로|까지| 퍼센트로) (맞춰|설정해|바꿔)(줘| 줘|주세요)"],
      params=[P("level", "round:0:100", "level volume percent value", "The volume in percent.|0 to 100.|How loud.")]),
    C("navigate", "travel", "navigate_to start_navigation get_directions directions route_to",
      "Starts navigation to a place.|Gives directions.|Plans a route.",
      ["(navigate|take me|drive me|guide me) to {destination}",
       "[get|give me|show me] [the] directions to {destination}", "(how do I|I want to) get to {destination}[?]",
       "(start|plan) (a route|navigation) to {destination}"],
      ["I'm heading to {destination}, guide me", "bring me to {destination}"],
      ko=["{destination}(까지|로) (길 안내해|길 찾아|안내해)(줘| 줘|주세요)", "{destination} 가는 길 (알려|찾아)줘"],
      params=[P("destination", "place", "destination to place target",
          "Where to go.|The destination.|A place or an address."),
              P("mode", "enum", "mode travel_mode transport by", "How to travel.|Means of transport.",
                  options=["driving", "walking", "cycling", "transit"],
                clauses=[" by {mode}", ", {mode}", " [in|with] {mode} mode"], held=[", I'm {mode}"])]),
    C("weather", "info", "get_weather weather_forecast check_weather weather forecast",
      "Gets the weather forecast.|Tells the weather in a city.|Weather for a place.",
      ["(what's|what is|how's|how is) the weather [like] in {city}",
       "[show|tell|give] [me] the (weather|forecast) (for|in) {city}", "(check|get) the weather (in|for) {city}",
       "weather [in] {city}",
       "will it rain in {city}"],
      ["do I need an umbrella in {city}", "{city} weather report"],
      ko=["{city} 날씨 (어때|알려줘|알려 줘|보여줘)", "{city}의 날씨를 알려 주세요"],
      params=[P("city", "city", "city location place town", "The city.|Where.|Name of the place."),
              P("day", "date", "date day on", "The day as YYYY-MM-DD.|For which day, YYYY-MM-DD.",
                  clauses=[" (on|for) {day}", " {day}"], held=[", I mean {day}"]),
              P("unit", "enum", "unit units temperature_unit", "Unit of the temperature.|Units.", options=["celsius",
                  "fahrenheit"], clauses=[" in {unit}", ", in degrees {unit}"], held=[", use {unit}"])]),
    C("light", "home", "set_light control_light light_set change_light adjust_lights",
      "Sets a light in a room.|Controls the lights.|Changes colour or brightness of a light.",
      ["(set|change|turn|make) the {room} (light|lights|lamp)", "(adjust|switch) the (light|lights) in the {room}",
       "(change|set) the (light|lamp) in the {room}"],
      ["I want the {room} light", "how about the lights in the {room}"],
      ko=["{room} (조명|불|전등) (바꿔|설정해|조절해)(줘| 줘|주세요)"],
      params=[P("room", "enum", "room where area location", "The room.|Which room.|Where the light is.",
          options=_ROOMS, options_ko=_ROOMS_KO),
              P("color", "enum", "color colour light_color", "The colour.|Colour of the light.", options=_COLORS,
                  options_ko=_COLORS_KO, clauses=[" to {color}", " in {color}", " [to] the color {color}"],
                      held=[", colored {color}"], ko=["{color}으로 "]),
              P("level", "round:5:100", "brightness level percent", "Brightness in percent.|How bright, 0 to 100.",
                  clauses=[" (to|at) {level} percent", " with brightness {level}", " at {level}% [brightness]"],
                      held=[" and dim it to {level} percent"], ko=["밝기 {level}으로 "])]),
    C("thermostat", "home", "set_thermostat set_temperature heat_to thermostat_set change_temperature",
      "Sets the temperature.|Sets the thermostat.|Changes the room temperature.",
      ["(set|change|put|turn) the (temperature|thermostat|heating) to {degrees} [degrees]",
       "make it {degrees} degrees [in here]", "(heat|cool) [the house|the room] to {degrees} [degrees]",
       "I want it [to be] {degrees} degrees"],
      ["{degrees} degrees would be nice", "get the room to {degrees} degrees"],
      ko=["온도(를|) {degrees}도(로) (맞춰|설정해|바꿔)(줘| 줘|주세요)", "{degrees}도로 (맞춰|해)(줘| 줘|주세요)"],
      params=[P("degrees", "int:15:30", "temperature degrees target value",
          "Degrees.|The temperature wanted.|Target in degrees."),
              P("mode", "enum", "mode hvac_mode", "What the device does.|Mode.", options=["heat", "cool", "auto",
                  "eco"], options_ko=["난방", "냉방", "자동", "절전"],
                clauses=[" in {mode} mode", ", {mode} mode", " with [the] mode {mode}"],
                    held=[", switched to {mode}"], ko=["{mode} 모드로 "])]),
    C("ac_step", "home", "adjust_temperature change_by temperature_step nudge_temperature",
      "Raises or lowers the temperature by some degrees.|Adjusts the temperature.|Makes it warmer or colder.",
      ["(raise|increase) the temperature by {up} [degrees]", "turn it up [by] {up} degrees",
       "(make it|I want it) {up} degrees warmer",
       "(lower|decrease|reduce) the temperature by {down} [degrees]", "turn it down [by] {down} degrees",
       "(make it|I want it) {down} degrees (cooler|colder)"],
      ["bump the temperature up [by] {up}", "drop the temperature [by] {down}"],
      ko=["온도(를|) {up}도 (올려|높여)(줘| 줘|주세요)", "온도(를|) {down}도 (내려|낮춰)(줘| 줘|주세요)",
          "{up}도만 올려(줘| 줘)", "{down}도만 내려(줘| 줘)"],
      params=[P("delta", "int:1:9", "delta change degrees step amount",
          "The change in degrees, negative for colder.|By how many degrees; below zero to cool.")], near="thermostat"),
    C("lock", "home", "lock_door door_lock lock secure_door",
      "Locks a door.|Locks one of the doors.|Door lock.",
      ["lock the {door} [door]", "(make sure|check that) the {door} [door] is locked",
       "(please lock|lock up) the {door}[ door]"],
      ["secure the {door}", "the {door} should be locked"],
      params=[P("door", "enum", "door which name", "Which door.|The door.", options=["front", "back", "garage",
          "balcony"], options_ko=["현관문", "뒷문", "차고문", "발코니문"])],
      ko=["{door} (잠가|잠궈)(줘| 줘|주세요)"]),
    C("brightness", "phone", "set_brightness screen_brightness brightness_set change_brightness",
      "Sets the brightness of the screen.|Screen brightness.|Changes how bright the display is.",
      ["(set|change|turn|put) the (screen|display) [brightness] to {level} [percent]",
       "screen brightness [to|at] {level}[ percent|%]", "(dim|brighten) (the|my) (screen|display) to {level} "
       "[percent]"],
      ["I want my display at {level}", "make the screen {level} percent bright"],
      ko=["화면 밝기(를|) {level}(으로|퍼센트로) (맞춰|바꿔)(줘| 줘|주세요)"],
      params=[P("level", "round:5:100", "level brightness percent value",
          "Brightness in percent.|0 to 100.|How bright.")]),
    C("bluetooth", "phone", "set_bluetooth toggle_bluetooth bluetooth bluetooth_switch",
      "Switches Bluetooth on or off.|Bluetooth switch.|Turns Bluetooth on or off.",
      ["(turn|switch) bluetooth {onoff}", "(turn|switch) {onoff} bluetooth", "bluetooth {onoff}"],
      ["I (want|need) bluetooth {onoff}", "put bluetooth {onoff}"],
      ko=["블루투스 {onoff}(줘| 줘|주세요)"],
      params=[P("onoff", "onoff", "enabled on state active", "True for on.|Whether it is on.|On or off.")]),
    C("convert", "info", "convert_units unit_convert convert units",
      "Converts a number between units.|Unit conversion.|Changes one unit into another.",
      ["convert {value} {source} (to|into) {target}", "(what's|what is|how much is) {value} {source} in {target}[?]",
       "how many {target} (are|is) {value} {source}[?]", "{value} {source} (to|in) {target}"],
      ["change {value} {source} into {target} for me", "I have {value} {source}, what is that in {target}"],
      params=[P("value", "float:1:500", "value amount number quantity", "The number.|How much.|Amount to convert."),
              P("source", "enum", "from_unit source unit_from from", "Unit to convert from.|The unit given.",
                  options=["miles", "kilometers", "pounds", "kilograms", "inches", "centimeters", "gallons", "liters"]),
              P("target", "enum", "to_unit target unit_to to", "Unit to convert to.|The unit wanted.",
                  options=["miles", "kilometers", "pounds", "kilograms", "inches", "centimeters", "gallons",
                      "liters"])]),
    C("search_files", "files", "search_files find_file file_search find_documents",
      "Searches the files.|Finds a file by name.|Looks for documents.",
      ["(search|look through) my (files|documents) for {query}",
       "(find|look for) (the|a|my) (file|document) [called|named] {query}", "where is the (file|document) {query}[?]"],
      ["I can't find the document {query}", "dig up the file {query}"],
      params=[P("query", "file", "query name filename text", "What to look for.|Name of the file.|Search text."),
              P("folder", "word", "folder directory where in", "Where to look.|The folder.",
                  clauses=[" in the {folder} (folder|directory)", " in [the folder] {folder}"],
                      held=[", it's under {folder}"])]),
    C("delete_file", "files", "delete_file remove_file file_delete erase_file trash",
      "Deletes a file.|Removes a file for good.|Erases a document.",
      ["(delete|remove|erase) [the file] {name}", "(get rid of|throw away|trash) [the file] {name}",
       "I (don't|do not) need {name} any more, (delete|remove) it"],
      ["{name} can be deleted", "wipe {name}"],
      params=[P("name", "file", "name filename path file", "The file.|Name of the file.|Path.")]),
    C("rename_file", "files", "rename_file file_rename rename move_file",
      "Renames a file.|Gives a file a new name.|Changes a file's name.",
      ["rename [the file] {old} (to|as|into) {new}", "(change|set) the name of {old} to {new}",
       "give {old} the [new] name {new}"],
      ["{old} should be called {new}", "call {old} {new} from now on"],
      params=[P("old", "file", "old_name source old from_name", "The present name.|File to rename.|Old name."),
          P("new", "file", "new_name target new to_name", "The new name.|What to call it.|New name.")]),
    C("translate", "info", "translate_text translate translation say_in",
      "Translates a text.|Translates words into a language.|Translation.",
      ["translate {text} (to|into) {language}", "(how do you|how do I) say {text} in {language}[?]",
       "what is {text} in {language}[?]", "[say|put] {text} in {language}"],
      ["I need {text} in {language}", "turn {text} into {language}"],
      params=[P("text", "text", "text phrase source words", "What to translate.|The text.|Words to translate."),
              P("language", "enum", "language target_language to lang", "The language wanted.|Into which language.",
                  options=["French", "German", "Korean", "Spanish", "Italian", "Japanese", "Turkish"])]),
    C("taxi", "travel", "book_taxi order_cab request_ride call_taxi ride_request",
      "Orders a taxi.|Books a ride.|Requests a cab.",
      ["(order|book|get|call) [me] a (taxi|cab|ride) to {to}", "I need a (taxi|cab|ride) to {to}",
       "(taxi|cab) to {to}"],
      ["have a cab bring me to {to}", "find me a driver to {to}"],
      ko=["{to}(까지|로) 가는 택시 (불러|잡아)(줘| 줘|주세요)"],
      params=[P("to", "place", "destination to dropoff drop_off", "Where to go.|Destination.|Drop-off."),
              P("time", "time", "time pickup_time at", "When, as HH:MM.|Pickup time HH:MM.", clauses=[" at {time}",
                  " for {time}", ", pickup [time] {time}"], held=[", be there at {time}"]),
              P("seats", "int:1:6", "passengers seats people", "How many passengers.|Seats.",
                  clauses=[" for {seats} (people|passengers)", " with {seats} seats"], held=[", we are {seats}"])],
                      near="navigate"),
    C("workout", "health", "start_workout log_workout workout begin_exercise track_workout",
      "Starts a workout.|Tracks a workout.|Begins an exercise.",
      ["(start|begin|track) (a|my) {kind} (workout|session|exercise)", "I'm going {kind}[, track it]",
       "(log|record) (a|my) {kind} [workout|session]"],
      ["time for some {kind}", "let's go {kind}"],
      params=[P("kind", "enum", "activity kind type_of_workout sport", "The sport.|Kind of workout.",
          options=["running", "cycling", "swimming", "rowing", "hiking", "yoga"]),
              P("minutes", "round:5:120", "minutes duration length", "Minutes.|How long.",
                  clauses=[" for {minutes} minutes", ", {minutes} minutes", " of {minutes} minutes"],
                      held=[", it takes {minutes} minutes"]),
              P("distance", "float:1:40", "distance km distance_km", "Distance in km.|How far, km.",
                  clauses=[" over {distance} (km|kilometers)", ", {distance} km"],
                      held=[", {distance} kilometers far"])]),
    C("web", "info", "web_search search_web google_it internet_search search",
      "Searches the web.|Internet search.|Looks something up online.",
      ["(search|look on) the (web|internet) for {query}", "(google|look up|search for) {query} (online|on the web|"
       "on the internet)", "(web|internet) search[:] {query}"],
      ["find something about {query} online", "what does the internet say about {query}"],
      ko=["인터넷에서 {query} (검색해|찾아)(줘| 줘|주세요)", "{query} 검색해(줘| 줘|주세요)"],
      params=[P("query", "phrase:1:4", "query q text terms", "What to look for.|Search terms.|The query.")]),
    C("pay", "money", "transfer_money send_money pay payment make_payment",
      "Sends money to somebody.|Transfers an amount.|Pays a person.",
      ["(send|transfer|pay) {amount} {currency} to {to}", "(pay|send) {to} {amount} {currency}",
       "I owe {to} {amount} {currency}, (pay|send) it"],
      ["{to} gets {amount} {currency} from me", "settle {amount} {currency} with {to}"],
      params=[P("to", "person", "recipient to payee person", "Who gets it.|Recipient.|Payee."), P("amount",
          "float:1:900", "amount sum value", "How much.|The amount.|Sum."),
              P("currency", "enum", "currency unit money", "The currency.|Which money.", options=["euros", "dollars",
                  "pounds", "yen", "won"]),
              P("memo", "phrase:1:3", "memo note reference reason", "What for.|A note.|Reference.",
                  clauses=[" for {memo}", " with the (note|reference) {memo}", ", reference {memo}"],
                      held=[", the reason is {memo}"])]),
    C("share_location", "people", "share_location location_share send_location",
      "Shares the location with people.|Tells friends where the user is.|Location sharing.",
      ["share my location with {people}", "(let|tell) {people} know where I am",
       "(send|show) my (location|position) to {people}"],
      ["{people} should see where I am", "make my position visible to {people}"],
      ko=["{people}에게 내 위치 (공유해|보내)(줘| 줘|주세요)"],
      params=[P("people", "people", "people contacts friends with_people", "With whom.|Names.|People who may see it."),
              P("minutes", "round:5:120", "minutes duration", "For how many minutes.|Minutes.",
                  clauses=[" for {minutes} minutes", " for the next {minutes} minutes"],
                      held=[", {minutes} minutes long"])]),
    C("email_read", "messages", "read_emails check_mail list_emails get_emails",
      "Reads new e-mails from a sender.|Lists emails.|Checks the mailbox.",
      ["(read|show|check) [me] [my|the] (emails|mails) from {sender}",
       "(are there|do I have) [any|new] (emails|mails) from {sender}[?]", "what did {sender} (write|email) me[?]"],
      ["anything in my inbox by {sender}", "go through the mails of {sender}"],
      params=[P("sender", "person", "sender from_person from author", "Who wrote them.|Sender."), P("unread", "bool",
          "unread unread_only only_unread", "Only unread ones.|Whether to skip read ones.",
          clauses=[", only unread ones", ", unread only"], no=[", read ones too", ", including read ones"])]),
    # kept out of training: does the model read, or remember?
    C("table", "food", "book_table reserve_table table_reservation", "Books a table in a restaurant.|Reserves a table.",
      ["(book|reserve) a table at {restaurant} for {guests} (people|guests)",
       "(get|find) [us|me] a table for {guests} at {restaurant}"],
       ["we want to eat at {restaurant} with {guests} people"],
      params=[P("restaurant", "place", "restaurant place where", "The restaurant.|Where to eat."), P("guests",
          "int:2:12", "guests people party_size", "How many people.|Number of guests."),
              P("time", "time", "time at", "Time as HH:MM.|When, HH:MM.", clauses=[" at {time}"],
                  held=[", {time} sharp"])], unseen=True),
    C("parcel", "shopping", "track_parcel parcel_status where_is_package", "Tracks a parcel.|Tells where a package is.",
      ["track [the|my] (parcel|package) {code}", "where is (my|the) (parcel|package) [number] {code}[?]"],
       ["any news on shipment {code}"],
      params=[P("code", "code", "tracking_number code parcel_id", "The tracking number.|Number of the parcel.")],
          unseen=True),
    C("photo", "phone", "take_photo capture_image snap_picture", "Takes a photo.|Makes a picture with the camera.",
      ["take a (photo|picture) with the {camera} camera", "(snap|shoot) a (photo|picture) using the {camera} camera"],
       ["smile for the {camera} camera"],
      params=[P("camera", "enum", "camera lens which_camera", "Which camera.|The camera.", options=["front", "back"]),
              P("delay", "int:2:15", "delay seconds timer_s", "Seconds to wait.|Delay in seconds.",
                  clauses=[" in {delay} seconds", " after {delay} seconds"], held=[", wait {delay} seconds first"])],
                      unseen=True),
    C("expense", "money", "add_expense log_expense record_spending", "Records an expense.|Writes down money spent.",
      ["(add|record|log) an expense of {amount} (for|on) {what}", "I spent {amount} on {what}"],
       ["{amount} went into {what}"],
      params=[P("amount", "float:1:300", "amount cost sum", "How much.|The cost."), P("what", "item",
          "category purpose what", "What it was for.|What was bought.")], unseen=True),
    C("recipe", "food", "find_recipe recipe_search get_recipes", "Finds a recipe.|Searches recipes by ingredients.",
      ["find [me] a recipe with {items}", "what can I cook with {items}[?]"], ["I've got {items}, any recipe ideas"],
      params=[P("items", "items", "ingredients items with_ingredients", "What it is made of.|The ingredients."),
              P("minutes", "round:10:90", "max_minutes minutes time_limit",
                  "At most so many minutes.|Longest time in minutes.", clauses=[" in {minutes} minutes",
                  " under {minutes} minutes"], held=[", I have {minutes} minutes"])], unseen=True),
]


# --- by composition ---------------------------------------------------------------------------------------------------

# tool verbs / how people say it / Korean. No two rows mean the same, so that two rows can stand in one prompt.
_VERBS = [row.split("/") for row in """start launch begin run/start|begin|launch|fire up|run/시작해|가동해
stop halt end/stop|halt|end|shut down/멈춰|중지해
open unlock_and_open/open|open up/열어
close shut/close|shut/닫아
clean wash/clean|wash|scrub/청소해
check inspect get_status/check|inspect|have a look at|check on/확인해|점검해
pause suspend/pause|suspend|hold/일시정지해
reset restart reboot/reset|restart|reboot/초기화해|재시작해
book reserve/book|reserve/예약해
cancel abort call_off/cancel|call off|abort/취소해
order purchase buy/order|buy|purchase/주문해
print/print|print out/인쇄해
scan/scan|scan in/스캔해
repair fix/repair|fix|mend/고쳐|수리해
fill refill/fill|refill|fill up|top up/채워
empty drain/empty|drain/비워
feed/feed|give food to/먹이 줘
water irrigate/water|irrigate/물 줘
heat warm_up/heat|warm up|heat up/데워
cool chill/cool|chill|cool down/식혀
move relocate/move|relocate|bring/옮겨
archive/archive|put away/보관해
upload/upload|push up/업로드해
download fetch/download|fetch/다운로드해|내려받아
sync synchronize/sync|synchronize/동기화해
update upgrade/update|upgrade/업데이트해
install set_up/install|set up/설치해
measure/measure|take the measure of/측정해
calibrate tune/calibrate|tune|fine-tune/조정해
rent hire/rent|hire/빌려
return give_back/return|give back|bring back/반납해
rate score/rate|give a score to/평가해
review/review|go over/검토해
approve accept/approve|accept|sign off/승인해
reject decline/reject|decline|turn down/거절해
assign delegate/assign|delegate|hand over/배정해
hide/hide|conceal/숨겨
lift raise/raise|lift/올려
lower/lower|bring down|let down/내려
record/record|tape/녹화해
export/export/내보내
import/import|load in/가져와
share publish/share|publish/공유해
charge recharge/charge|recharge|plug in/충전해
ship dispatch/ship|dispatch|send off/발송해
test try_out/test|try out/시험해
block ban/block|ban/차단해
report flag/report|flag/신고해
mute silence/mute|silence/음소거해
count tally/count|tally|count up/세어""".splitlines()]

_THINGS = [row.split("/") for row in """washing machine/세탁기
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
            "How many minutes.|Duration in minutes.", clauses=[" for {minutes} minutes", " for {minutes} min",
            ", {minutes} minutes long"], held=[" during {minutes} minutes"], ko=["{minutes}분 동안 "])),
        ("for", P("hours", "int:1:12", "hours duration_hours", "How many hours.|Duration in hours.",
            clauses=[" for {hours} hours", ", {hours} hours long"], held=[" during {hours} hours"],
                ko=["{hours}시간 동안 "])),
        ("at", P("time", "time", "time start_time at_time", "When, as HH:MM.|Time of day, HH:MM.",
            clauses=[" at {time}", " [starting] at {time}"], held=[", {time} sharp"], ko=["{time}에 "])),
        ("on", P("day", "date", "date day on_date", "The day as YYYY-MM-DD.|Which day (YYYY-MM-DD).",
            clauses=[" on {day}", " {day}"], held=[", the day is {day}"], ko=["{day}에 "])),
        ("temp", P("degrees", "int:5:240", "temperature degrees heat_level", "The temperature in degrees.|Degrees.",
            clauses=[" at {degrees} degrees", " to {degrees} degrees"], held=[", {degrees} degrees hot"],
                ko=["{degrees}도로 "])),
        ("level", P("level", "int:1:10", "level intensity power strength", "From 1 to 10.|The level.",
            clauses=[" at level {level}", " on level {level}", ", level {level}"], held=[" with a level of {level}"],
                ko=["{level}단계로 "])),
        ("percent", P("percent", "round:5:100", "percent percentage share", "Per cent.|How much, in percent.",
            clauses=[" to {percent} percent", " to {percent}%", ", {percent} percent"],
                held=[" until {percent} percent"], ko=["{percent}퍼센트로 "])),
        ("times", P("times", "int:2:12", "times count repeat repetitions", "How many times.|Repetitions.",
            clauses=[" {times} times", ", {times} times"], held=[" and do that {times} times"], ko=["{times}번 "])),
        ("room", P("room", "enum", "room location area", "The room.|Where.", options=_ROOMS, options_ko=_ROOMS_KO,
            clauses=[" in the {room}"], held=[", the one in the {room}"], ko=["{room}에서 "])),
        ("color", P("color", "enum", "color colour", "The colour.|Which colour.", options=_COLORS,
            options_ko=_COLORS_KO, clauses=[" in {color}", ", color {color}", " with the color {color}"],
                held=[", make it {color}"], ko=["{color}으로 "])),
        ("size", P("size", "enum", "size format", "The size.|How big.", options=["small", "medium", "large"],
            options_ko=["작은", "중간", "큰"], clauses=[" in size {size}", ", size {size}", ", {size} size"],
                held=[" as a {size} one"], ko=["{size} 크기로 "])),
        ("priority", P("priority", "enum", "priority urgency", "How urgent.|Priority.", options=["low", "normal",
            "high", "urgent"], clauses=[" with {priority} priority", ", {priority} priority",
            ", priority {priority}"], held=[" and treat it as {priority} priority"])),
        ("speed", P("speed", "enum", "speed pace", "How fast.|The speed.", options=["slow", "normal", "fast",
            "turbo"], options_ko=["느린", "보통", "빠른", "터보"], clauses=[" at {speed} speed", ", {speed} speed",
            ", speed {speed}"], held=[" with the speed {speed}"], ko=["{speed} 속도로 "])),
        ("named", P("name", "phrase:1:2", "name label title", "What it is called.|The name.",
            clauses=[" (called|named) {name}", ", name {name}", " with the name {name}"],
                held=[", it is known as {name}"], ko=["{name} 이름으로 "])),
        ("who", P("person", "person", "person user owner customer", "For whom.|The person.|Who it is for.",
            clauses=[" for {person}", " on behalf of {person}", ", it's for {person}"],
                held=[" because {person} asked"], ko=["{person} 이름으로 "])),
        ("code", P("code", "code", "code id number reference", "The number.|Reference code.|Identifier.",
            clauses=[" number {code}", " with [the] (code|id|number) {code}", ", (code|id) {code}"],
                held=[", you find it under {code}"], ko=["번호 {code}로 "])),
        ("pin", P("pin", "pin", "pin passcode secret", "The PIN.|Secret digits.", clauses=[" with [the] pin {pin}",
            " using [the] pin {pin}", ", pin {pin}"], held=[" and enter {pin} as the pin"],
            ko=["비밀번호 {pin}으로 "])),
        ("note", P("note", "text", "note comment remark message", "A note.|A remark.|Comment.",
            clauses=[" with the (note|comment) {note}", ", (note|comment)[:] {note}",
                " and add the (note|comment) {note}"], held=[", I also want to say {note}"], ko=["메모 {note} "])),
        ("where", P("place", "place", "place city location address", "Where.|The place.|Address or city.",
            clauses=[" in {place}", " at {place}", ", location {place}"], held=[", the place is {place}"],
                ko=["{place}에서 "])),
        ("email", P("email", "email", "email contact_email notify", "Whom to notify by e-mail.|An e-mail address.",
            clauses=[" and (notify|tell|email) {email}", ", email {email}", " with the email {email}"],
                held=[" and copy {email} in"], ko=["이메일 {email}로 "])),
        ("url", P("url", "url", "url link source address", "The address.|A link.", clauses=[" from {url}",
            " (at|using) the (url|link) {url}", ", link {url}"], held=[", you get it at {url}"], ko=["{url}에서 "])),
        ("file", P("file", "file", "file filename path", "The file.|Name of the file.",
            clauses=[" (with|from|using) the file {file}", ", file {file}"], held=[" and take {file}"],
                ko=["{file} 파일로 "])),
        ("kg", P("weight", "float:1:90", "weight weight_kg kilos", "The weight in kg.|Kilograms.",
            clauses=[" with {weight} (kg|kilograms)", ", {weight} kg", " weighing {weight} kg"],
                held=[", it weighs {weight} kilograms"], ko=["{weight}킬로그램으로 "])),
        ("price", P("price", "float:1:900", "price cost max_price budget", "The price.|At most so much.|In euros.",
            clauses=[" for {price} (euros|dollars)", " at [a price of] {price} (euros|dollars)", ", price {price}"],
                held=[" costing {price} euros"])),
        ("quiet", P("quiet", "bool", "quiet silent quiet_mode", "Whether to be quiet.|Silent or not.",
            clauses=[" quietly", " silently", " in quiet mode"], no=[" with sound", " not in quiet mode",
                ", it may be loud"])),
        ("notify", P("notify", "bool", "notify send_notification alert",
            "Whether to notify.|Tell the user when done.", clauses=[" and (notify|tell) me", " with [a] notification",
            ", with an alert"], no=[" without [a] notification", ", don't notify me", ", no alert"])),
        ("force", P("force", "bool", "force confirmed sure", "Don't ask again.|Without asking.",
            clauses=[" without asking", " right away, no questions", ", I'm sure"], no=[" but ask first",
                " but let me confirm"])),
        ("tags", P("tags", "tags", "tags labels keywords", "Some tags.|Labels.|Keywords.",
            clauses=[" (tagged|with the tags) {tags}", ", tags[:] {tags}"], held=[" and tag it as {tags}"],
                ko=["태그 {tags}로 "])),
        ("people", P("people", "people", "people participants guests", "Names.|Who takes part.",
            clauses=[" together with {people}", ", participants[:] {people}", " and invite {people}"],
                held=[", the guests are {people}"], ko=["{people}와 함께 "])),
        ("items", P("items", "items", "items parts contents", "The items.|What it holds.|Parts.",
            clauses=[" (including|containing) {items}", ", items[:] {items}", " with {items} in it"],
                held=[" and put {items} in"])),
    ]


COMPOSED = _composed_params()

_WISH = ["", "", "", "", "I (want|need) to ", "I'd like to ", "I need you to ", "time to ",
    "(make sure to|remember to) ", "help me [to] ", "go and "]
_WISH_HELD = ["go ahead and ", "would you kindly ", "let's ", "I was hoping you'd ", "how about we "]


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
    doing = "|".join(verb[1].split("|"))
    the = "(the|the|my|our|this)"
    ko = [f"{noun_ko}{_object_particle(noun_ko)} ({verb[2]})(줘| 줘|주세요)",
        f"{noun_ko} ({verb[2]})(줘| 줘|주세요)"] if noun_ko else []
    return Concept(
        key=f"{names[0]} {noun}",
        domain="composed",
        names=tuple([f"{n}_{stem}" for n in names] + [f"{stem}_{names[0]}"]),
        about=(f"{_third(names[0].replace('_', ' '))} the {noun}.",
            f"{names[-1].replace('_', ' ').capitalize()} the {noun}.",
                f"For the {noun}: {names[0].replace('_', ' ')}."),
        say=tuple(f"{wish}({doing}) {the} {noun}" for wish in _WISH),
        held=tuple(f"{wish}({doing}) {the} {noun}" for wish in _WISH_HELD),
        ko=tuple(ko),
        params=params,
        required=tuple(p.key for p in params if rng.random() < 0.4),
    )


def composed_thing(rng: random.Random, split: str) -> list[str]:
    """A thing of the table, or one that nobody has heard of. `split` decides the half."""
    while True:
        thing = rng.choice(_THINGS) if rng.random() < 0.6 else [_invented(rng)]
        if (side(thing[0]) == "test") == (split == "unseen"):
            return thing


def _invented(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.choice([1, 2, 2])))


def is_unseen(concept: Concept) -> bool:
    """Whether this composed concept is about a thing that training never names."""
    return concept.domain == "composed" and side(concept.key.partition(" ")[2]) == "test"


def relatives(concept: Concept, rng: random.Random) -> tuple[list[str], list[str]]:
    """(thing, verb) of a composed concept's nearest neighbour: the same thing, or the same verb, but not both."""
    verb, _, noun = concept.key.partition(" ")
    rows = [row for row in _VERBS if row[0].split()[0] == verb]
    things = [row for row in _THINGS if row[0] == noun] or [[noun]]
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
    words = [rng.choice(WORDS) for _ in range(rng.choice([1, 1, 2]))]
    said, key = " ".join(words), "_".join(words)
    kind = rng.choice(["int:1:99", "int:1:999", "float:1:50", "word", "phrase:1:2", "code", "enum", "enum"])
    options = tuple(dict.fromkeys(rng.choice(WORDS) for _ in range(rng.randint(2, 4)))) if kind == "enum" else ()
    clauses = [f" with {said} {{{key}}}", f", {said} {{{key}}}", f" with [a|the] {said} (of|set to) {{{key}}}",
        f" and set the {said} to {{{key}}}"]
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


BY_HAND = MOBILE + MORE


def check() -> None:
    """Every slot of every pattern has its parameter. Called by the tests."""
    extra = {"ac_step": {"up", "down"}}
    for concept in BY_HAND:
        known = {p.key for p in concept.params} | extra.get(concept.key, set())
        for pattern in (*concept.say, *concept.held, *concept.ko):
            assert slots(pattern) <= known, (concept.key, pattern)
        for param in concept.params:
            for clause in (*param.clauses, *param.held, *param.ko, *param.no):
                assert slots(clause) <= {param.key}, (concept.key, clause)
