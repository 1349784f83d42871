"""What people say to a smart home besides plain requests: questions, complaints, occasions and small talk.

The patterns are as in `requests`. Law: a remark means exactly one action, the key of the dictionary.
"""

QUESTIONS: dict[str, tuple[str, ...]] = {
    "query": (
        "{be} {x} {s}",
        "(check|see|find out|tell me) (if|whether) {x} {be} {s}",
        "what (is|about) the state of {x}",
        "do you know (if|whether) {x} {be} {s}",
        "did i (leave|have|put) {x} {s}",
        "have i (left|got) {x} {s}",
    ),
    "ask_temperature": (
        "how (warm|cold|hot) is it {in}",
        "what is the temperature {in}",
        "(check|tell me|find out) the temperature {in}",
        "(check|tell me|find out) how (warm|cold|hot) it is {in}",
        "do you know how (warm|cold|hot) it is {in}",
    ),
}

_FEEL = "(it is|it's|it feels)"
REMARKS: dict[tuple[str, str, int | None], tuple[str, ...]] = {
    ("heating", "warmer", 2): (
        f"{_FEEL} (too|so|pretty) (cold|chilly|freezing) {{in}}",
        "i am (too|so|pretty) cold {in}",
        "the {room} is (too|so|pretty) (cold|chilly)",
    ),
    ("heating", "cooler", 2): (
        f"{_FEEL} (too|so|pretty) (hot|warm|boiling) {{in}}",
        "i am (sweating|boiling) {in}",
        "the {room} is (too|so|pretty) (hot|warm)",
    ),
    ("light", "on", None): (
        f"{_FEEL} (too|so|pretty) dark {{in}}",
        "i (can't|cannot) see (anything|a thing) {in}",
        "the {room} is (too|so|pretty) dark",
    ),
    ("light", "dimmer", 20): (
        f"{_FEEL} (too|so|pretty) bright {{in}}",
        "the light (hurts|dazzles|blinds) me {in}",
        "the {room} is (too|so|pretty) bright",
    ),
    ("window", "open", None): (
        f"{_FEEL} (too|so|pretty) (stuffy|smelly) {{in}}",
        "the air is (bad|stale|stuffy) {in}",
        "we need (some|more) fresh air {in}",
        "the {room} (needs|could use) (some|more) fresh air",
    ),
    ("window", "close", None): (
        f"{_FEEL} (too|so|pretty) (draughty|windy) {{in}}",
        "there is (a|some) (draught|wind) {in}",
    ),
    ("blinds", "close", None): (
        "the sun (hurts|dazzles|blinds) me {in}",
        "there is too much sun {in}",
        "people (can|could) (look|see) in {in}",
    ),
    ("vacuum", "clean", None): (
        "the (floor|carpet) {in} is (dirty|dusty|a mess)",
        "there are crumbs (everywhere|on the floor) {in}",
        "the {room} is (dirty|dusty|a mess)",
    ),
    ("speaker", "quieter", 20): (
        "the music is (too|so|pretty) loud {in}",
        f"{_FEEL} (too|so|pretty) (loud|noisy) {{in}}",
    ),
    ("tv", "louder", 20): (
        "i (can't|cannot) hear the (tv|telly|television) {in}",
        "the (tv|telly|television) is (too|so|pretty) quiet {in}",
    ),
    ("fan", "on", None): ("i (need|want|would like) (a|some) breeze {in}", "we need (a|some) breeze {in}"),
}

SCENES: dict[str, tuple[str, ...]] = {
    "good_night": (
        "good night",
        "i am (going|off) to bed",
        "time (for bed|to sleep)",
        "(start|run) the (good night|night) scene",
    ),
    "good_morning": (
        "good morning",
        "i am (up|awake)",
        "time to (get up|wake up)",
        "(start|run) the (good morning|morning) scene",
    ),
    "movie_time": (
        "(it is|it's) (movie|film) time",
        "time for a (movie|film)",
        "(let's|let us) watch a (movie|film)",
        "(start|run) the (movie|film) scene",
    ),
    "leaving": (
        "(goodbye|bye)",
        "i am (leaving|going out)",
        "(start|run) the (leaving|away) scene",
        "we are (leaving|going out)",
    ),
    "dinner": (
        "(it is|it's) (dinner|supper) time",
        "time for (dinner|supper)",
        "dinner is (ready|served)",
        "(start|run) the (dinner|supper) scene",
    ),
    "party": (
        "(it is|it's) party time",
        "time for a party",
        "(let's|let us) (party|have a party)",
        "(start|run) the party scene",
    ),
    "holiday": (
        "we are (going|off) on (holiday|vacation)",
        "i am (going|off) on (holiday|vacation)",
        "(start|run) the (holiday|vacation) scene",
    ),
    "reading": (
        "i (want|would like) to read",
        "time (to read|for a book)",
        "(start|run) the (reading|book) scene",
    ),
}

SMALL_TALK: tuple[str, ...] = (
    "(who|what) are you",
    "what can you do",
    "(how|where) are you",
    "(hello|hi|hey there)",
    "thank you (very much|so much)",
    "tell me (a joke|a story|something)",
    "what is the (capital|language|president) of (france|spain|italy|japan|china|peru)",
    "who (wrote|invented|painted) (the bible|hamlet|faust|the radio|the mona lisa)",
    "what is (love|the meaning of life|time)",
    "(buy|order) (some|me some) (bread|milk|shoes|tickets|pizza)",
    "(call|text) (my mother|my boss|a taxi|the police|anna)",
    "how (far|big|old) is (the moon|the sun|berlin|the earth)",
    "(will|does) it (rain|snow) (today|tomorrow) in (paris|rome|london)",
    "(write|send) (an email|a letter|a message) to (my boss|anna|my mother)",
    "(sing|write) (a song|a poem) about (love|cats|the sea)",
    "translate (cat|dog|house) into (french|german|spanish)",
    "how (do i|can i) (cook|make) (rice|pasta|pizza|soup)",
    "what is {n} (plus|times|minus) {n}",
    "(do you|can you) (like|love|know) (music|cats|me|dogs)",
)
