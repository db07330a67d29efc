"""Training text: English lines of many kinds, from WordNet 3.0 and from this file's own templates.

In: WordNet's data files (Debian's `wordnet-base`; the WordNet licence permits any use, with attribution). The templates
belong to this project (Apache-2.0).
Out: `lines(count, seed)`, distinct lines of letters and `' , ; : . ? !`. Digits, abbreviations and symbols do not occur,
so the teacher reads exactly what is written. The sentences of the evaluation sets are left out.

Kinds: WordNet examples and glosses, the same joined into long sentences, everyday sentences, questions, dialogue, names and
places, numbers and dates in words, lists, headings, spelled letters, single words and one-word answers. A few lines end with a
comma, a colon or nothing, because long sentences are cut at such places before they are spoken.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

WORDNET = Path("/usr/share/wordnet")
HELD_OUT = tuple(Path(__file__).with_name(name) for name in ("held_out.txt", "tuning.txt", "short.txt"))
LONGEST_LINE = 200
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_ALLOWED = re.compile(r"[A-Za-z' ,;:.?!-]+")
_ABBREVIATIONS = {"st", "mr", "mrs", "ms", "dr", "jr", "sr", "vs", "etc", "ie", "eg", "ca", "cf", "esp", "viz", "al"}
LETTER_NAMES = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "ay bee see dee ee eff jee aitch eye jay kay el em en oh pee cue are ess tee you vee double-you ex why zee".split(),
        strict=True,
    )
)


def _split(text: str) -> list[str]:
    return text.strip().replace("|\n", "|").replace("\n|", "|").replace("\n", " ").split("|")


PEOPLE = _split("""
the teacher|my brother|her sister|the old man|the young woman|our neighbor|a doctor|the driver|my mother|his
father|the children|the students|a farmer|the captain|the nurse|their friends|the boy|the girl|the baker|a
stranger|my uncle|the manager|the artist|two workers|the police officer|a tall man|the singer|the king|the
queen|everyone|nobody|she|he|they|we|the cook|the guests|her husband|his wife|the lawyer|a soldier|the judge|a
little boy|the whole family|my best friend|the team|the crowd|the writer
""")

THINGS = _split("""
the door|a letter|the red car|her book|the kitchen table|an old house|the window|a cup of tea|the money|the
picture|a long story|the garden|the bread|some water|the music|a new coat|the box|the road|their dinner|a small
boat|the lamp|the key|the paper|an apple|the phone|the radio|a heavy bag|the green bottle|the clock|the
horse|the dog|a white cat|the bird|the train ticket|a warm blanket|the field|the fence|the river|a wooden
chair|the wall|the floor|the bridge|a glass of milk|the soup|the map|the ship|a bright light|the computer|a
question|the answer|the problem|the secret|a blue dress|the hat|the shoes|the cake|some flowers
""")

PAST = _split("""
opened|closed|found|lost|carried|bought|sold|painted|cleaned|watched|remembered|forgot|noticed|left|took|brought
|saw|wanted|needed|liked|loved|hated|fixed|broke|moved|dropped|held|kept|showed|described|touched|pushed|pulled|
covered|filled|washed|counted|checked|borrowed|returned|gave away|looked at|asked for|waited for|paid for|talked
about|thought about|heard about|picked up|put down
""")

PLACE = _split("""
in the morning|near the river|on the table|under the bridge|at the station|behind the house|after dinner|before
the storm|last night|every day|on the way home|in the city|by the sea|at school|in the middle of the road|across
the street|next to the church|during the winter|in the early spring|late in the afternoon|at the end of the
week|in front of the store|without a word|for a long time|in the dark|with great care|on the second floor|at the
corner|over the hill|around the lake|from the window|in the small village|on a cold day|in the hot sun|at
noon|since last year|along the beach|outside the hospital|inside the theater|between the trees
""")

ADJECTIVE = _split("""
happy|sad|tired|ready|late|early|cold|warm|hot|dry|wet|clean|dirty|quiet|loud|empty|full|heavy|light|open|closed
|new|old|strong|weak|rich|poor|easy|hard|simple|strange|clear|dark|bright|soft|sharp|sweet|fresh|broken|safe|dan
gerous|beautiful|ugly|cheap|expensive|important|famous|angry|afraid|hungry|thirsty|sick|healthy|busy|free|possib
le|different|wonderful|terrible|perfect
""")

SUBJECT = _split("""
the weather|the water|this room|the soup|the road|our house|the sky|the night|the music|the city|this
problem|the answer|the work|the train|the food|the sea|the river|the garden|the wind|his voice|her face|the
street|the sun|the moon|the snow|the rain|the story|the game|the price|the summer|the winter|the hotel|my
room|your coffee|the milk|the bread|that idea|the plan|the view
""")

BASE = _split("""
go|come|stay|leave|sit down|stand up|work|play|sing|dance|read|write|sleep|eat|drink|drive|walk|run|swim|help
us|tell the truth|wait here|open the door|close the window|turn off the light|call me|answer the phone|make a
cake|buy some bread|find a job|pay the bill|wash the dishes|clean the house|feed the dog|take a walk|catch the
bus|learn to read|listen to the radio|watch the news
""")

GREETING = _split("""
hello|good morning|good evening|thank you very much|please|excuse me|yes|no|well|oh|all right|good
night|welcome|of course|I am sorry|how are you|see you tomorrow|never mind|come
on|look|listen|goodbye|thanks|okay|sure|wait|help
""")


NUMBERS = _split("""
one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|
nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety
""")
ORDINALS = _split("""
first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth|
sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth|fortieth|fiftieth|hundredth
""")
MONTHS = _split("January|February|March|April|May|June|July|August|September|October|November|December")
DAYS = _split("Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday")
UNITS = _split("""
dollars|euros|pounds|cents|years|minutes|hours|seconds|days|weeks|months|miles|kilometers|meters|feet|inches|people|books|
percent|degrees|times|pages|grams|kilograms|liters|gallons|watts|volts|megabytes|points|votes|tons|acres|steps|rooms|kilometers per hour
""")
FIRST_NAMES = _split("""
James|Mary|Robert|Patricia|John|Jennifer|Michael|Linda|David|Elizabeth|William|Barbara|Richard|Susan|Joseph|Jessica|Thomas|
Sarah|Charles|Karen|Christopher|Lisa|Daniel|Nancy|Matthew|Betty|Anthony|Sandra|Mark|Margaret|Donald|Ashley|Steven|Kimberly|
Andrew|Emily|Paul|Donna|Joshua|Michelle|Kenneth|Carol|Kevin|Amanda|Brian|Melissa|George|Deborah|Timothy|Stephanie|Ronald|
Rebecca|Jason|Laura|Edward|Helen|Jeffrey|Sharon|Ryan|Cynthia|Jacob|Kathleen|Gary|Amy|Nicholas|Angela|Eric|Anna|Jonathan|
Ruth|Stephen|Brenda|Larry|Pamela|Justin|Nicole|Scott|Katherine|Brandon|Samantha|Benjamin|Christine|Samuel|Emma|Gregory|
Catherine|Alexander|Virginia|Patrick|Rachel|Frank|Carolyn|Raymond|Janet|Jack|Maria|Dennis|Heather|Jerry|Diane|Tyler|Olivia|
Aaron|Julie|Jose|Joyce|Adam|Victoria|Nathan|Kelly|Henry|Christina|Peter|Lauren|Zachary|Joan|Douglas|Evelyn|Harold|Judith|
Oliver|Sophie|Hugo|Chloe|Liam|Mia|Noah|Ava|Lucas|Isabella|Ahmed|Fatima|Wei|Mei|Hiroshi|Yuki|Ivan|Olga|Pierre|Claire|
Carlos|Lucia|Priya|Arjun|Omar|Leila|Sven|Ingrid|Giovanni|Francesca|Fiona|Siobhan|Alice|Arthur|Simon|Martin
""")
LAST_NAMES = _split("""
Smith|Johnson|Williams|Brown|Jones|Garcia|Miller|Davis|Martinez|Wilson|Anderson|Taylor|Thomas|Moore|Jackson|Martin|Lee|
Thompson|White|Harris|Clark|Lewis|Robinson|Walker|Young|Allen|King|Wright|Scott|Torres|Hill|Green|Adams|Nelson|Baker|Hall|
Campbell|Mitchell|Carter|Roberts|Turner|Phillips|Evans|Parker|Edwards|Collins|Stewart|Morris|Murphy|Cook|Rogers|Morgan|
Cooper|Peterson|Reed|Bailey|Kelly|Howard|Kim|Cox|Ward|Richardson|Watson|Brooks|Wood|Bennett|Gray|Hughes|Price|Myers|Long|
Foster|Sanders|Ross|Powell|Sullivan|Russell|Fisher|Henderson|Barnes|Graham|Wallace|Fletcher|Patel|Nguyen|Chen|Schmidt|Rossi
""")
TITLES = _split(
    "Mister|Doctor|Professor|Captain|Missus|Miss|Judge|Senator|Uncle|Aunt|Sergeant|President|Queen|King|Saint"
)
VERBS = _split("""
start|finish|explain|repeat|change|check|copy|send|delete|open|save|review|update|sign|return|replace|cancel|move|test|share|
describe|count|measure|repair|paint|build|sell|buy|borrow|choose|compare|forget|remember|discuss|improve|protect|record|print
""")
OBJECTS = _split("""
the report|this file|your password|the meeting|the order|our account|the schedule|the contract|the ticket|the last page|the
message|the invoice|your address|the machine|the battery|the engine|the recording|the project|the list|the photographs|the
recipe|the whole thing|both copies|the second chapter|the results|those numbers|the instructions|the package|the budget
""")
TOPICS = _split("""
science|music|history|the economy|climate change|public health|modern art|education|the election|artificial intelligence|space
travel|the ocean|language|mathematics|architecture|agriculture|football|cooking|energy|transport|the law|medicine|philosophy
""")
OPENINGS = _split("""
however|therefore|in fact|for example|as a result|on the other hand|of course|unfortunately|in the end|at first|suddenly|
meanwhile|after all|to be honest|in other words|generally speaking|by the way|as usual|to my surprise|in short|first of all
""")
CLAUSES = _split("""
because nobody had expected it|although it was already late|when the lights went out|while the others were still asleep|as soon
as the door opened|before anyone could answer|which surprised everyone|even though the price was high|unless something changes
soon|since there was nothing left to do|so that we could see the road|until the rain finally stopped|where the two roads meet|if
you have enough time|as far as I know|just as the clock struck twelve|whether you like it or not|after a long and difficult
journey|which is why we have to hurry|and that was the end of it|but it did not help at all|or so we were told
""")
ANSWERS = _split("""
yes|no|maybe|never|always|today|tomorrow|yesterday|now|later|soon|here|there|nothing|everything|someone|anyone|perhaps|exactly|
absolutely|certainly|sure|right|wrong|fine|great|good|bad|enough|almost|really|why|how|when|where|who|what|which|help|stop|go|
wait|look|listen|run|thanks|please|sorry|welcome|congratulations|done|ready|next|again|nonsense|impossible|of course|not yet|
not at all|me too|no way|so what|who knows|why not|how come|what else|good idea|well done|at last|right now|just a moment|
I see|I know|I agree|I do|I can't|it depends|no problem|never again|see you|take care|good luck|happy birthday|one moment
""")
TAGS = _split(
    "said|asked|replied|whispered|answered|shouted|cried|explained|admitted|added|laughed|muttered|insisted|agreed"
)
CONTRACTIONS = _split("""
I don't know|I can't believe it|it's not fair|we're almost there|they've already left|she'll be back soon|he won't listen|you
shouldn't worry|that's what I thought|there isn't any left|I'd rather stay at home|we've seen it before|who's there|what's wrong|
it doesn't matter|they weren't invited|let's try again|I'm not so sure|you're absolutely right|he couldn't have known|we didn't
mean it|I've never been there|it wasn't my idea|she hasn't called yet|that wouldn't help|you'd better hurry|I'll think about it
""")


def _number(pick: random.Random) -> str:
    kind = pick.random()
    if kind < 0.35:
        return pick.choice(NUMBERS)
    if kind < 0.6:
        return f"{pick.choice(NUMBERS[19:])}{pick.choice([' ', '-'])}{pick.choice(NUMBERS[:9])}"
    if kind < 0.75:
        return f"{pick.choice(NUMBERS[:9])} hundred {pick.choice(['', 'and '])}{pick.choice(NUMBERS)}"
    if kind < 0.85:
        return f"{pick.choice(NUMBERS)} {pick.choice(['thousand', 'million', 'billion'])}"
    if kind < 0.93:
        return f"{pick.choice(NUMBERS)} thousand, {pick.choice(NUMBERS[:9])} hundred {pick.choice(['', 'and '])}{pick.choice(NUMBERS)}"
    return f"{pick.choice(NUMBERS)} point {' '.join(pick.choice(['zero', *NUMBERS[:9]]) for _ in range(pick.randint(1, 3)))}"


def _year(pick: random.Random) -> str:
    if pick.random() < 0.25:
        return f"two thousand {pick.choice(['', 'and '])}{pick.choice(NUMBERS[:19])}"
    century = pick.choice(["nineteen", "eighteen", "seventeen", "sixteen", "fifteen", "twenty"])
    return (
        f"{century} {pick.choice([*NUMBERS[9:19], *[f'{ten}-{one}' for ten in NUMBERS[19:] for one in NUMBERS[:9]]])}"
    )


def _name(pick: random.Random) -> str:
    kind = pick.random()
    if kind < 0.4:
        return pick.choice(FIRST_NAMES)
    if kind < 0.8:
        return f"{pick.choice(FIRST_NAMES)} {pick.choice(LAST_NAMES)}"
    return f"{pick.choice(TITLES)} {pick.choice(LAST_NAMES)}"


def _letters(pick: random.Random) -> str:
    return " ".join(pick.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(pick.choice([1, 2, 2, 3, 3, 3, 4])))


@dataclass
class WordNet:
    """What is read from WordNet.

    sentences: Example sentences and short glosses.
    words: Lower-case lemmas of one word.
    nouns: The nouns among them.
    names: Names of people and places, of one to three words.
    """

    sentences: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    nouns: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path = WORDNET) -> WordNet:
        found, words, nouns, names = cls(), set(), set(), set()
        for part in ("noun", "verb", "adj", "adv"):
            for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
                if line.startswith("  "):
                    continue
                head, _, gloss = line.partition(" | ")
                fields = head.split(" ")
                for lemma in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
                    if lemma.isalpha() and lemma.islower():
                        words.add(lemma)
                        if part == "noun":
                            nouns.add(lemma)
                    elif re.fullmatch(r"[A-Z][a-z]{2,}(_[A-Z][a-z]{2,}){0,2}", lemma):
                        names.add(lemma.replace("_", " "))
                found.sentences += re.findall(r'"([^"]+)"', gloss)
                found.sentences.append(re.sub(r"\([^)]*\)", "", gloss.split(";")[0].split('"')[0]).strip())
        found.sentences = [line for line in map(clean, found.sentences) if line]
        found.words, found.nouns, found.names = sorted(words), sorted(nouns), sorted(names)
        return found


class Writer:
    """Writes lines of one kind each. All randomness comes from `pick`."""

    def __init__(self, pick: random.Random, wordnet: WordNet) -> None:
        self.pick, self.wordnet = pick, wordnet
        self.kinds: list[tuple[float, Callable[[], str]]] = [
            (0.25, self.wordnet_line),
            (0.10, self.long),
            (0.15, self.everyday),
            (0.08, self.question),
            (0.08, self.dialogue),
            (0.08, self.names),
            (0.08, self.numbers),
            (0.03, self.enumeration),
            (0.02, self.heading),
            (0.02, self.letters),
            (0.04, self.fragment),
            (0.04, self.words),
            (0.03, self.answer),
        ]

    def line(self) -> str:
        weights = [weight for weight, _ in self.kinds]
        return self.pick.choices([kind for _, kind in self.kinds], weights)[0]()

    def wordnet_line(self) -> str:
        line = self.pick.choice(self.wordnet.sentences)
        return _ended(line, self.pick.choices([".", "", "!", ",", ":", ";"], [80, 12, 2, 4, 1, 1])[0])

    def long(self) -> str:
        pick = self.pick.choice
        parts = [pick(self.wordnet.sentences), pick(CLAUSES), self._statement(), pick(self.wordnet.sentences)]
        self.pick.shuffle(parts)
        parts = [part.rstrip(".!?,;:") for part in parts[: self.pick.choice([2, 2, 3, 3, 4])]]
        joint = pick([", ", ", ", ", and ", "; ", ", but ", ": "])
        first, *rest = parts
        return _ended(
            first + joint + ", ".join(_lower_first(part) for part in rest), pick([".", ".", ".", ".", ",", "?"])
        )

    def _statement(self) -> str:
        pick = self.pick.choice
        frame = self.pick.randrange(16)
        if frame == 0:
            return f"{pick(PEOPLE)} {pick(PAST)} {pick(THINGS)} {pick(PLACE)}"
        if frame == 1:
            return f"{pick(PLACE)}, {pick(PEOPLE)} {pick(PAST)} {pick(THINGS)}"
        if frame == 2:
            very = pick(["very ", "too ", "quite ", "", "so ", "rather "])
            return f"{pick(SUBJECT)} {pick(['is', 'was', 'will be', 'seems', 'looked'])} {very}{pick(ADJECTIVE)} {pick(PLACE)}"
        if frame == 3:
            return f"{pick(SUBJECT)} was {pick(ADJECTIVE)} and {pick(ADJECTIVE)}"
        if frame == 4:
            start = pick(
                ["please ", "now ", "you should ", "we must ", "do not ", "let us ", "I want to ", "they had to ", ""]
            )
            return f"{start}{pick(BASE)} {pick(PLACE)}"
        if frame == 5:
            return f"{pick(PEOPLE)} said that {pick(SUBJECT)} was {pick(ADJECTIVE)}"
        if frame == 6:
            return f"{pick(PEOPLE)} {pick(PAST)} {pick(THINGS)} and {pick(PAST)} {pick(THINGS)}"
        if frame == 7:
            return f"if {pick(SUBJECT)} is {pick(ADJECTIVE)}, {pick(PEOPLE)} will {pick(BASE)}"
        if frame == 8:
            return f"{pick(OPENINGS)}, {pick(PEOPLE)} {pick(PAST)} {pick(THINGS)}"
        if frame == 9:
            return f"{pick(PEOPLE)} {pick(PAST)} the {pick(self.wordnet.nouns)} and the {pick(self.wordnet.nouns)}"
        if frame == 10:
            return f"{pick(CONTRACTIONS)}, {pick(CLAUSES)}"
        if frame == 11:
            return f"please {pick(VERBS)} {pick(OBJECTS)} {pick(PLACE)}"
        if frame == 12:
            return f"we have to {pick(VERBS)} {pick(OBJECTS)} and {pick(VERBS)} {pick(OBJECTS)}"
        if frame == 13:
            return f"this {pick(['book', 'article', 'talk', 'chapter', 'film'])} is about {pick(TOPICS)} and {pick(TOPICS)}"
        if frame == 14:
            return f"{pick(PEOPLE)} {pick(PAST)} {pick(THINGS)}, {pick(CLAUSES)}"
        return f"{pick(CONTRACTIONS)}"

    def everyday(self) -> str:
        return _ended(self._statement(), self.pick.choices([".", "!", ","], [90, 5, 5])[0])

    def question(self) -> str:
        pick = self.pick.choice
        frame = self.pick.randrange(9)
        if frame == 0:
            start = pick(
                ["can you", "will they", "did she", "why did he", "when will you", "how can we", "would you", "could I"]
            )
            return f"{start} {pick(BASE)}?"
        if frame == 1:
            return f"{pick(['where is', 'what happened to', 'who took', 'have you seen', 'whose is'])} {pick(THINGS)}?"
        if frame == 2:
            return f"{pick(['can you', 'should we', 'did they', 'how do I', 'why must we'])} {pick(VERBS)} {pick(OBJECTS)}?"
        if frame == 3:
            return f"is {pick(SUBJECT)} {pick(ADJECTIVE)}, or is it {pick(ADJECTIVE)}?"
        if frame == 4:
            return f"what do you think about {pick(TOPICS)}?"
        if frame == 5:
            return f"do you know {_name(self.pick)} from {pick(self.wordnet.names)}?"
        if frame == 6:
            return f"{self._statement()}, {pick(['right', 'does it', 'is it', 'do you think', 'or not'])}?"
        if frame == 7:
            return f"what does the word {pick(self.wordnet.words)} mean?"
        return f"how {pick(['many', 'much', 'long', 'far', 'often'])} {pick(['is it', 'did it take', 'do you need', 'are there'])}?"

    def dialogue(self) -> str:
        pick = self.pick.choice
        speaker = pick([pick(FIRST_NAMES), pick(PEOPLE), "he", "she", "I", "they"])
        said = pick([self._statement, self.question, lambda: pick(CONTRACTIONS), lambda: pick(ANSWERS)])()
        frame = self.pick.randrange(5)
        if frame == 0:
            return f"{_ended(said, ',')} {speaker} {pick(TAGS)}."
        if frame == 1:
            return f"{speaker} {pick(TAGS)}: {_ended(said, '.')}"
        if frame == 2:
            return f"{_ended(self.question(), '?')} {_capital(_ended(pick(ANSWERS), pick(['.', '!'])))}"
        if frame == 3:
            return f"{pick(GREETING)}, {pick(FIRST_NAMES)}{pick(['!', '.', ','])} {_capital(_ended(self._statement(), '.'))}"
        return f"{_capital(_ended(pick(ANSWERS), pick(['.', ',', '!'])))} {_capital(_ended(pick(CONTRACTIONS), '.'))}"

    def names(self) -> str:
        pick = self.pick.choice
        frame = self.pick.randrange(8)
        if frame == 0:
            return f"{_name(self.pick)} {pick(PAST)} {pick(THINGS)} {pick(PLACE)}."
        if frame == 1:
            return f"{_name(self.pick)} and {_name(self.pick)} live in {pick(self.wordnet.names)}."
        if frame == 2:
            return f"{pick(['we flew to', 'she comes from', 'have you heard of', 'the road to'])} {pick(self.wordnet.names)}"
        if frame == 3:
            return f"my name is {_name(self.pick)}."
        if frame == 4:
            return f"{_name(self.pick)}, {pick(['the famous', 'a young', 'our new', 'the former'])} {pick(self.wordnet.nouns)}, arrived on {pick(DAYS)}."
        if frame == 5:
            return f"{pick(self.wordnet.names)} and {pick(self.wordnet.names)}"
        if frame == 6:
            return f"{pick(['dear', 'hello,', 'thank you,', 'goodbye,', 'welcome,'])} {_name(self.pick)}{pick(['.', ',', '!'])}"
        return f"{_name(self.pick)} {pick(TAGS)} that {self._statement()}."

    def numbers(self) -> str:
        pick, number = self.pick.choice, lambda: _number(self.pick)
        frame = self.pick.randrange(13)
        if frame == 0:
            return f"it costs {number()} {pick(UNITS)}."
        if frame == 1:
            return f"{pick(PEOPLE)} waited {number()} {pick(UNITS)} {pick(PLACE)}."
        if frame == 2:
            day = f"{pick(['', 'twenty-', 'the '])}{pick(ORDINALS[:9])}"
            return f"on {pick(DAYS)}, {pick(MONTHS)} {day}, {pick(PEOPLE)} {pick(PAST)} {pick(THINGS)}."
        if frame == 3:
            return f"in {_year(self.pick)}, {self._statement()}."
        if frame == 4:
            return f"{number()} {pick(['plus', 'minus', 'times', 'divided by'])} {number()} {pick(['is', 'equals'])} {number()}."
        if frame == 5:
            digits = [pick(["zero", "oh", *NUMBERS[:9]]) for _ in range(self.pick.randint(3, 10))]
            return f"{pick(['my number is ', 'call ', 'the code is ', 'dial ', ''])}{' '.join(digits)}"
        if frame == 6:
            minutes = pick(["o'clock", "thirty", "fifteen", "forty-five", "oh five", pick(NUMBERS[9:19]), "ten"])
            return f"{pick(['the train leaves at', 'meet me at', 'it is', 'we open at'])} {pick(NUMBERS[:12])} {minutes}{pick(['', ' in the morning', ' ay em', ' pee em'])}."
        if frame == 7:
            return f"{pick(MONTHS)} {pick(ORDINALS[:20])}, {_year(self.pick)}"
        if frame == 8:
            return f"{number()} dollars and {pick(NUMBERS)} cents"
        if frame == 9:
            return f"the {pick(ORDINALS)} {pick(self.wordnet.nouns)} of {pick(self.wordnet.names)}"
        if frame == 10:
            return f"about {number()} percent of {pick(['the people', 'all students', 'the world', 'them', 'our customers'])} {pick(PAST)} it."
        if frame == 11:
            return f"{number()} {pick(['and', 'or', 'to'])} {number()}"
        return f"{number()} {pick(UNITS)}"

    def enumeration(self) -> str:
        pick = self.pick.choice
        source = pick([THINGS, self.wordnet.nouns, FIRST_NAMES, NUMBERS, self.wordnet.names, ADJECTIVE, DAYS, TOPICS])
        items = [pick(source) for _ in range(self.pick.randint(3, 6))]
        joint = pick([" and ", ", and ", " or ", ", "])
        return _ended(", ".join(items[:-1]) + joint + items[-1], pick([".", ".", "", "?"]))

    def heading(self) -> str:
        pick = self.pick.choice
        part = f"{pick(['chapter', 'part', 'section', 'lesson', 'unit', 'step', 'book'])} {pick(NUMBERS[:24])}"
        title = pick([pick(THINGS), pick(TOPICS), f"the {pick(self.wordnet.nouns)}", pick(self.wordnet.names)])
        return pick([part, f"{part}: {title}", f"{part}. {_capital(title)}.", title, f"a short history of {title}"])

    def letters(self) -> str:
        pick, letters = self.pick.choice, _letters(self.pick)
        return pick(
            [
                letters,
                f"the {letters} {pick(self.wordnet.nouns)}",
                f"{pick(PEOPLE)} {pick(PAST)} the {letters}.",
                f"{letters} stands for {pick(self.wordnet.words)}.",
                f"that is spelled {', '.join(letters.split())}.",
                f"vitamin {letters[0]}, please.",
            ]
        )

    def fragment(self) -> str:
        words = self.pick.choice(self.wordnet.sentences).rstrip(".").split(" ")
        length = self.pick.randint(1, 6)
        start = self.pick.randrange(max(1, len(words) - length + 1))
        return _ended(
            " ".join(words[start : start + length]).strip(" ,;:-'"), self.pick.choice(["", "", ".", ",", "?"])
        )

    def words(self) -> str:
        count = self.pick.choice([1, 1, 1, 2, 3, 4])
        source = self.wordnet.names if self.pick.random() < 0.2 else self.wordnet.words
        return _ended(" ".join(self.pick.choice(source) for _ in range(count)), self.pick.choice(["", "", "."]))

    def answer(self) -> str:
        pick = self.pick.choice
        said = pick(
            [pick(ANSWERS), pick(GREETING), pick(CONTRACTIONS), f"{pick(ANSWERS)}, {pick(ANSWERS)}", pick(FIRST_NAMES)]
        )
        return _ended(said, pick([".", "!", "?", "", "."]))


def _ended(line: str, mark: str) -> str:
    """`line` with `mark` at its end, unless it ends with a mark of its own."""
    return line if not line or not line[-1].isalnum() else line + mark


def _capital(line: str) -> str:
    return line[:1].upper() + line[1:]


def _lower_first(line: str) -> str:
    return line if line.startswith(("I ", "I'")) else line[:1].lower() + line[1:]


def clean(line: str) -> str | None:
    """`line` if the teacher reads exactly what it spells, else None."""
    line = re.sub(r"\s+", " ", line.replace("--", ", ").replace("`", "'")).strip(" ,;-'")
    words = _WORD.findall(line)
    if not words or len(line) > LONGEST_LINE or not _ALLOWED.fullmatch(line):
        return None
    if any(len(word) > 1 and word[1:] != word[1:].lower() for word in words):
        return None  # acronyms
    if any(word.lower() in _ABBREVIATIONS or (len(word) == 1 and word not in "aAIO") for word in words):
        return None
    return None if re.search(r"\.\S|\. [a-z]", line) else line


def written(line: str) -> str:
    """The text of a line as a voice is given it: spelled letters by their names ("B B C": bee bee see)."""
    return re.sub(
        r"(?<![A-Za-z'])([A-Z](?:,? [A-Z])*)(?![A-Za-z'])",
        lambda match: (
            match[0] if match[0] in ("A", "I", "O") else re.sub("[A-Z]", lambda m: LETTER_NAMES[m[0]], match[0])
        ),
        line,
    )


def normal_form(line: str) -> str:
    """Lower-case words only: two lines of one normal form count as the same line."""
    return " ".join(_WORD.findall(line.lower()))


def lines(count: int, seed: int) -> list[str]:
    """`count` distinct lines of all kinds, in random order."""
    pick = random.Random(seed)
    writer = Writer(pick, WordNet.read())
    held_out = {normal_form(line) for file in HELD_OUT for line in file.read_text(encoding="utf-8").splitlines()}
    chosen: dict[str, str] = {}
    while len(chosen) < count:
        line = re.sub(r"\s+", " ", writer.line()).strip()
        if len(line) > LONGEST_LINE or not _ALLOWED.fullmatch(line):
            continue
        key = normal_form(line)
        if key and key not in held_out:
            chosen.setdefault(key, _capital(line) if pick.random() < 0.9 else line)
    return list(chosen.values())


if __name__ == "__main__":
    print("\n".join(lines(60, seed=0)))
