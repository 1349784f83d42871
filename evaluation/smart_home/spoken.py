"""Numbers, amounts, clock times, durations and events, as people say them.

Law: every function draws a value and one of its spoken forms; a form never means another value.
"""

from random import Random

from edge_agent.tools.home import COLOURS as COLOURS
from edge_agent.tools.home import MUSIC as MUSIC

SMALL = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

EVENTS: dict[str, tuple[str, ...]] = {
    "leave": ("when i leave", "when i go out", "as soon as i leave the house"),
    "arrive": ("when i get home", "when i come home", "as soon as i am home"),
    "dark": ("when it gets dark", "if it gets dark", "after sunset", "once it is dark"),
    "sunrise": ("at sunrise", "when the sun rises", "as soon as the sun is up"),
    "rain": ("if it rains", "when it starts to rain", "if it starts raining"),
    "empty": ("when nobody is home", "if nobody is at home", "when everyone is out"),
    "doorbell": ("if someone rings the bell", "when the doorbell rings"),
    "bedtime": ("when i go to bed", "when i fall asleep", "at bedtime"),
    "wake_up": ("when i wake up", "as soon as i am awake", "when i get up"),
    "hot": ("if it gets too hot", "when it gets hot outside"),
}

DAY_PARTS: tuple[tuple[str, int, int, int], ...] = (
    # words, first hour, last hour, hours to add
    ("in the morning", 5, 11, 0),
    ("am", 1, 11, 0),
    ("in the afternoon", 1, 5, 12),
    ("in the evening", 6, 11, 12),
    ("tonight", 7, 11, 12),
    ("pm", 1, 11, 12),
)


def number_words(number: int) -> str:
    """Return a number from 0 to 100 in words."""
    if number < 20:
        return SMALL[number]
    if number == 100:
        return "a hundred"
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{SMALL[ones]}" if ones else "")


def spoken_number(rng: Random, number: int) -> str:
    """Say a number in digits or, less often, in words."""
    return number_words(number) if number <= 100 and rng.random() < 0.25 else str(number)


def spoken_percent(rng: Random, number: int) -> str:
    """Say a percentage: "40 percent", "40%", "forty percent"."""
    return f"{number}%" if rng.random() < 0.3 else f"{spoken_number(rng, number)} percent"


def spoken_degrees(rng: Random, number: int) -> str:
    """Say a temperature: "21 degrees", "21", "twenty-one degrees"."""
    return f"{spoken_number(rng, number)}{rng.choice((' degrees', ' degrees', ''))}"


def clock(minutes: int) -> str:
    """Return minutes since midnight as "HH:MM"."""
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def spoken_clock(rng: Random) -> tuple[str, str]:
    """Draw a clock time ("18:30") and how it is said ("half past six in the evening")."""
    style = rng.random()
    if style < 0.06:
        return rng.choice((("12:00", "noon"), ("00:00", "midnight")))
    if style < 0.25:
        minutes = rng.randrange(24 * 60)
        return clock(minutes), clock(minutes)
    words, first, last, added = rng.choice(DAY_PARTS)
    hour = rng.randint(first, last)
    offset, said = _spoken_hour(rng, hour, joined=words in ("am", "pm"))
    return clock((hour + added) * 60 + offset), f"{said} {words}"


def _spoken_hour(rng: Random, hour: int, joined: bool) -> tuple[int, str]:
    """Draw minutes relative to the hour, and how both are said; `joined`: digits, as am and pm need."""
    if joined or rng.random() < 0.3:
        minute = rng.choice((0, 0, 5, 10, 15, 20, 30, 40, 45, 50, rng.randrange(60)))
        return minute, f"{hour}:{minute:02d}" if minute else str(hour)
    name = spoken_number(rng, hour)
    offset, words = rng.choice(
        ((0, ""), (0, ""), (30, "half past "), (15, "quarter past "), (-15, "quarter to "), (10, "ten past "),
         (20, "twenty past "), (-10, "ten to "), (-20, "twenty to "))
    )  # fmt: skip
    return offset, words + name


def spoken_duration(rng: Random) -> tuple[int, str]:
    """Draw minutes, and how they are said ("half an hour")."""
    if rng.random() < 0.3:
        return rng.choice(
            ((30, "half an hour"), (60, "an hour"), (120, "two hours"), (180, "three hours"), (60, "1 hour"))
        )
    number = rng.choice((rng.randint(2, 20), rng.randrange(5, 100, 5)))
    return number, f"{spoken_number(rng, number)} minutes"


def spoken_event(rng: Random) -> tuple[str, str]:
    """Draw an event in the home, and how it is said."""
    event = rng.choice(tuple(EVENTS))
    return event, rng.choice(EVENTS[event])
