"""Stories of a town, written by a grammar whose every choice is weighed.

The town gives us text of any size, the same bytes on every machine, and with
each story the exact logarithm of its probability. So the entropy of the text
is known, and with it the lowest loss that any model of it can reach.

A template is a line of text with slots. `<weather>` is a rule: one of its
templates takes the place. `{who}` is a role: it is filled from a table when a
story first names it, and remembered. `{who.her}` is a form of what fills the
role, `{who sell}` a verb that agrees with it, `{n item}` a number of things,
`{n-m}` a sum; a capital letter makes a capital letter. In a rule that is
called as `<tag who>`, the x stands for who.

Of several alternatives the first is the likeliest: of k, number i (from 0)
has probability (k - i) / (1 + 2 + ... + k).

Left out: stories in which more than one thing happens. The idea of a small
world of text for small models follows TinyStories (Eldan and Li, 2023),
whose stories were written by a large model, with unknown probability.
"""

import math
import random
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import NamedTuple

# --- The words ---------------------------------------------------------------

PEOPLE = """
Mrs Pell | she | baker | the bakery by the old bridge | loaf/loaves bun pie
Mr Dunn | he | smith | the forge behind the church | nail horseshoe knife/knives
Ada Wren | she | clockmaker | the clock shop in Lime Street | clock spring bell
Captain Orr | he | boatbuilder | the boat shed on the quay | oar sail paddle
Nell and Tom | they | farmers | the dairy at the crossroads | egg cheese jug
Doctor Hale | she | chemist | the pharmacy with the green door | pill syrup comb
Old Tobias | he | fisherman | the landing below the mill | eel fish/fish net
Miss Finch | she | bookseller | the bookshop on the hill | book map pencil
Mr and Mrs Bell | they | innkeepers | the inn beside the station | stew bed mug
Rosa Lind | she | florist | the garden behind the school | tulip rose fern
Mr Okoro | he | tailor | the workshop in Mill Lane | coat button scarf/scarves
Jem Carter | he | saddler | the stable near the well | saddle strap goose/geese
Ivy Moss | she | chandler | the store under the arch | candle lamp match/matches
Mr Quill | he | postmaster | the post office on the square | stamp card parcel
Sister Agnes | she | gardener | the orchard beyond the wall | apple pear plum
Ned and Nora | they | toymakers | the toy shop in Swan Alley | kite drum puppet
"""

TABLES = {
    "treasure": "ring/rings; umbrella; keys/keys; purse; spectacles/spectacles;"
    "watch; hat; gloves/gloves; fiddle; diary; scissors/scissors; notebook;"
    "thimble; walking stick; boots/boots; handkerchief",
    "trait": "crooked; red; new; silver; lucky; blue; patched; favorite;"
    "painted; little; checkered; green; heavy; curious",
    "tool": "ladder; wheelbarrow; kettle; saw; lantern; spade; bicycle;"
    "hammer; tent; bucket; trumpet; telescope",
    "pet": "goat; donkey; parrot; pig; pony; ferret; rooster; sheepdog",
    "name": "Bishop; Duchess; Pepper; Admiral; Mustard; Biscuit; Thunder;"
    "Clementine; Sergeant; Button; Lady Jane; Hercules",
    "spot": "under the bench; in the teapot; behind the stove; on the shelf;"
    "under the cat; in the rain barrel; at the foot of the stairs;"
    "between two sacks of flour; inside the grandfather clock;"
    "in an old sock; on the back of the donkey; among the onions;"
    "behind the mirror; beside the pump; under a heap of leaves; in the pram",
    "hideout": "on the church roof; in the mayor's bath; on the pier;"
    "under the market cross; in the mill pond; behind the brewery;"
    "on the night train; in the choir stalls; among the turnips;"
    "at the barber's; up the flagpole; in the school kitchen",
    "day": "Monday; Saturday; Tuesday; Friday; Wednesday; Thursday; Sunday",
    "hour": "four; ten; six; eleven; three; nine; five; two; eight; seven;"
    "twelve; one",
    "many": "six; eight; five; nine; seven; ten; twelve; eleven",
    "few": "three; two; four",
    "price": "two; four; three; six; five; nine; eight; seven",
    "tense": "past; present",
}

# What fills a role: a table, or the goods of whoever has another role.
ROLES = {
    "who": "people", "other": "people", "third": "people",
    "friend": "people", "extra": "people",
    "item": "who", "gift": "other", "ware": "third",
    "thing": "treasure", "trait": "trait", "tool": "tool",
    "pet": "pet", "name": "name", "hideout": "hideout",
    "spot": "spot", "spot2": "spot", "spot3": "spot",
    "day": "day", "day2": "day", "day3": "day",
    "hour": "hour", "hour2": "hour",
    "n": "many", "m": "few", "price": "price", "tense": "tense",
}  # fmt: skip

PRONOUNS = {
    "she": {"she": "she", "her": "her", "him": "her"},
    "he": {"she": "he", "her": "his", "him": "him"},
    "they": {"she": "they", "her": "their", "him": "them"},
}

UNITS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight",
    "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen",
    "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("", "", "twenty", "thirty")

# Past forms that are not the verb with -ed.
IRREGULAR = """
blow blew, break broke, bring brought, buy bought, catch caught, come came,
do did, fall fell, find found, fly flew, forget forgot, get got, give gave,
go went, hang hung, have had, hum hummed, keep kept, know knew, leave left,
lend lent, lie lay, lose lost, make made, pay paid, ring rang, rise rose,
run ran, say said, see saw, send sent, shine shone, shrug shrugged, sing
sang, sit sat, slam slammed, sleep slept, stand stood, steal stole, stop
stopped, strike struck, sweep swept, take took, tell told, think thought,
throw threw, wrap wrapped, write wrote
"""
PAST = dict(pair.split() for pair in IRREGULAR.split(","))

# --- The rules ---------------------------------------------------------------

SCENE = {
    "story": ("<opening> <tale>",),
    "tale": ("<news> <plot>", "<plot>"),
    "plot": ("<lost>", "<shop>", "<feast>", "<loan>", "<errand>", "<escape>"),
    "opening": (
        "It {it be} {day}, and <weather>.",
        "On {day} <weather>.",
        "It {it be} a <mild> {day}, and <weather>.",
        "The clock {it strike} {hour}, and <weather>. It {it be} {day}.",
        "{Day} {it come}, and <weather>.",
        "Around {hour} o'clock on {day} <weather>.",
        "Early on {day} <weather>.",
        "There {it be} no school on {day}, and <weather>.",
    ),
    "weather": (
        "rain {it fall} on <where>",
        "the sun {it shine} on <where>",
        "a <sharp> wind {it blow} over <where>",
        "fog {it hang} over <where>",
        "gulls {they fly} over <where>",
        "the smell of <smell> {it hang} over <where>",
        "snow {it lie} on <where>",
        "the bells {they ring} across <where>",
        "a <small> <animal> {it sit} by <where>",
        "mist {it rise} over <where>",
        "smoke {it rise} behind <where>",
    ),
    "news": (
        "The paper {it write} of a <small> <animal> near <where>.",
        "People {they talk} only of <smell> and the <animal> at <where>.",
        "In the window of {extra.place} {it sleep} a <small> <animal>.",
        "A poster near <where> {it promise} <festival> with <smell>.",
        "The mayor {it have} a cold and {it see} nobody but a <animal>.",
        "{extra}<tag extra>{extra sweep} the steps near <where>.",
    ),
    "mild": (
        "mild", "grey", "cold", "quiet", "warm", "long", "bright", "strange",
        "busy", "soft", "sleepy", "damp", "golden",
    ),
    "sharp": ("sharp", "warm", "salty", "sudden", "cold", "lazy"),
    "where": (
        "the river", "the roofs", "the square", "the bridge", "the hill",
        "the quay", "the mill", "the gardens", "the railway", "the churchyard",
        "the orchards", "the well", "the market", "the harbor", "the tower",
        "the brewery", "the school", "the pond",
    ),
    "smell": (
        "bread", "tar", "apples", "soap", "coffee", "hay", "wet dogs", "fish",
        "glue", "burnt toast", "roses", "onions", "paint", "cinnamon", "mud",
        "vinegar", "lavender", "new shoes",
    ),
    "small": (
        "small", "fat", "grey", "hungry", "spotted", "lazy", "muddy", "proud",
        "brown", "nervous", "tame", "wet", "one-eyed", "polite", "thin",
        "clever", "quick", "noisy", "dusty", "red",
    ),
    "animal": (
        "cat", "dog", "goose", "hen", "heron", "mouse", "pigeon", "swan",
        "toad", "hedgehog", "crow", "squirrel", "badger", "fox", "magpie",
        "lamb", "bat", "rat", "snail", "newt",
    ),
}  # fmt: skip

TALK = {
    "tag": (
        " ",
        ", who {x keep} {x.place}, ",
        ", the {x.trade}, ",
        ", who {x be} <mood>, ",
    ),
    "mood": (
        "in a hurry", "late", "hungry", "half asleep", "in good spirits",
        "out of breath", "wet to the skin", "in love", "covered in <smell>",
        "afraid of every <animal>", "fond of music", "new to this",
    ),
    "say": (
        "{x say}", "{x mutter}", "{x cry}", "{x whisper}", "{x sigh}",
        "{x shout}", "{x repeat}", "{x hum}", "{x announce}",
    ),
    "tone": (".", " <how x>."),
    "how": (
        "at once", "in a low voice", "with a smile", "after a while",
        "without looking up", "very slowly", "between two sneezes", "kindly",
        "for the second time", "to nobody in particular", "crossly",
        "with flour on {x.her} nose", "over a cup of tea",
    ),
    "saying": (
        "Bread does not bake itself", "What the wind takes, it keeps",
        "Count twice, sell once", "A wet <animal> knows no shame",
        "Nobody hurries over <where>", "Good string is never too long",
        "He who whistles has no <smell>", "Every bridge has two ends",
        "Ask the <animal>, not the clock", "Some keys open nothing",
        "The river is always early", "Never lend a <small> <animal>",
    ),
    "pause": (" <aside>\n", "\n"),
    "aside": (
        "A <small> <animal> {it look} on <how it>.",
        "Nobody <notice>.",
        "\"<saying>,\" people {they say} in such cases.",
        "{extra}<tag extra>{extra watch} it all from <where>.",
        "Two <small> geese {they quarrel} near <where>.",
        "In the distance a <small> <animal> {it cross} <where>.",
        "The clock {it strike} {hour2}.",
        "Somewhere <sound>.",
    ),
    "how it": (
        "with interest", "from a windowsill", "in silence", "sadly",
        "and {it yawn}", "from under a cart", "for a moment", "like a judge",
        "from <where>", "and {it scratch} its ear",
    ),
    "notice": (
        "{it notice} the <small> <animal>", "{it laugh}", "{it move}",
        "{it think} of the <smell>", "{it know} why", "{it believe} it",
        "{it say} a word", "{it want} to go home",
    ),
    "sound": (
        "a door {it slam}", "a <small> <animal> {it sneeze}",
        "a train {it whistle}", "a piano {it play} two notes",
        "a plate {it break}", "a child {it sing} about <smell>",
        "a <small> <animal> {it answer}", "a saw {it stop}",
    ),
}  # fmt: skip

LOST = {
    "lost": ("<loss> <search><find> <thanks>\n<lost question>",),
    "loss": (
        "{who}<tag who>{who lose} {who.her} {trait} {thing}<losing>.",
        "{who}<tag who>{who miss} {who.her} {trait} {thing}.",
        "{who.s} {trait} {thing} {thing be} gone.",
        "Nobody {it know} where {who.s} {trait} {thing} {thing be}.",
    ),
    "losing": (
        " near <where>", ", of all things", " on the way to {third.place}",
        " while chasing a <small> <animal>",
    ),
    "search": (
        "{Who.she} {who look} <places><then>",
        "{Who.she} {who ask} {other}, <answer><pause>",
        "{Who.she} {who search} {who.place} from {hour2} o'clock "
        "until dark.<pause>",
    ),
    "then": ("<pause>", " Then {who.she} {who ask} {other}, <answer><pause>"),
    "places": (
        "{spot} and {spot2}, but in vain.", "{spot}, then <where next>.",
    ),
    "where next": (
        "{spot2}, and {who find} only <junk>", "sadly out of the window",
        "in the <smell> drawer", "{spot2}, and {who give} up",
    ),
    "junk": (
        "dust", "a <small> <animal>", "an old stamp", "three buttons",
        "a letter from {extra}", "a smell of <smell>",
    ),
    "answer": (
        "who {other know} nothing.", "but {other.she} {other shrug}.",
        "who {other say}: \"<saying>.\"",
        "but {other.she} {other be} <mood>.",
        "who only {other point} at <where>.",
    ),
    "find": (
        "In the end {friend}<tag friend>{friend find} {thing.them} {spot3}.",
        "It {it be} {friend}<tag friend>who {friend find} {thing.them} "
        "{spot3}.",
        "Before supper {friend}<tag friend>{friend bring} {thing.them} back: "
        "{spot3}, {friend.she} <say friend>, of all places.",
        "\"{Spot3}!\" {friend}<tag friend><say friend><tone friend>",
    ),
    "thanks": (
        "{Who} {who give} {friend.him} {item.a} for it.",
        "For this {friend.she} {friend get} {m} {item.many}.",
        "\"<saying>,\" {who} <say who><tone who>",
        "The {who.trade} {who promise} never to <vow> again.",
    ),
    "vow": (
        "hurry", "trust a <small> <animal>", "whistle indoors", "run",
        "leave <where> alone", "sleep past {hour}", "think of <smell>",
    ),
    "lost question": (
        "Who {it find} the {thing}? {Friend}.",
        "Where {thing be} the {thing}? {Spot3}.",
        "What {who do} {who} lose? {Who.her} {trait} {thing}.",
        "Whose {thing} {thing be} lost? {Who.s}.",
    ),
}  # fmt: skip

SHOP = {
    "shop": ("<stock> <sale><pause><count> <end who>\n<shop question>",),
    "stock": (
        "{who}<tag who>{who have} {n} {item.many} to sell.",
        "{who}<tag who>{who count} {who.her} {item.many} <how who>: {n}.",
        "At {who.place} {n} {item.many} {they stand} in a row.",
        "By {hour2} o'clock {who}<tag who>{who have} {n} {item.many} ready.",
    ),
    "sale": (
        "{other}<tag other>{other take} {m} of them<for> {price} pence each.",
        "\"{M} of those,\" {other}<tag other><say other>, and {other pay} "
        "{price} pence for each<payment>.",
        "Soon {m} of them {they go} to {other}<for> {price} pence each.",
    ),
    "for": (" at", " for <occasion>, at"),
    "payment": (", for <occasion>", " in <coins>"),
    "coins": (
        "small coins", "old coins", "coins warm from {other.her} hand",
        "coins that {they smell} of <smell>", "foreign coins",
    ),
    "occasion": (
        "a wedding", "the winter", "a picnic near <where>", "a friend",
        "the mayor", "a bet", "good luck", "the choir", "a <small> <animal>",
        "{other.her} mother", "a journey", "the school play",
    ),
    "count": (
        "Now {who} {who have} {n-m item}.",
        "That {it leave} {n-m item} on the <shelf>.",
        "{N-m item} {n-m be} left.",
        "{Other} {other carry} {other.her} {item.many} past <where>, and "
        "{who} {who keep} {n-m}.",
    ),
    "shelf": ("shelf", "counter", "cart", "table", "doorstep", "wall"),
    "end": (
        "\"<saying>,\" {x} <say x><tone x>",
        "The {x.trade} {x go} home past <where>.",
        "{X} {x sing} all the way to <where>.",
        "And {x} {x sleep} like a <small> <animal>.",
        "{X} {x be} <mood>.",
    ),
    "shop question": (
        "How many {item.many} {they be} left? {N-m}.",
        "How much {other do} {other} pay? {M*price} pence.",
        "Who {it buy} {item.many}? {Other}.",
        "What {who do} {who} sell? {Item.many}.",
    ),
}  # fmt: skip

FEAST = {
    "feast": ("<party> <gifts><pause><total> <dance>\n<feast question>",),
    "party": (
        "{who}<tag who>{who give} a party for <guest>.",
        "There {it be} a feast at {who.place}, for <guest>.",
        "{who}<tag who>{who invite} everyone to <festival> at {who.place}.",
    ),
    "guest": (
        "the mayor", "the choir", "the new teacher", "three <mild> sailors",
        "a cousin from the sea", "the bell ringers", "a <small> <animal>",
        "the station master", "everybody under ten", "the fire brigade",
    ),
    "festival": (
        "a concert", "a dance", "a wedding", "a <mild> supper", "a magic show",
        "a birthday", "the first <smell> fair", "a game of cards",
    ),
    "gifts": (
        "{other}<tag other>{other bring} {n} {gift.many}, and "
        "{third}<tag third>{third bring} {m} {ware.many}.",
        "From {other} {they come} {n} {gift.many}, from {third} {m} "
        "{ware.many}.",
        "First {other}<tag other>{other come} with {n} {gift.many}, then "
        "{third}<tag third>{third come} with {m} {ware.many}.",
    ),
    "total": (
        "That {it make} {n+m} presents.",
        "{Who} {who count} the presents <how who>: {n+m}.",
        "On a table beside {who.her} hat {n+m} presents {they lie} in a heap.",
    ),
    "dance": (
        "{Friend}<tag friend>{friend play} the <instrument> until {hour2}.",
        "<end other>",
        "Then a <small> <animal> {it steal} one of the {gift.many}.",
        "People {they dance} as far as <where>.",
    ),
    "instrument": (
        "fiddle", "trumpet", "piano", "drums", "bagpipes", "accordion",
        "spoons", "bells",
    ),
    "feast question": (
        "How many presents {they be} there? {N+m}.",
        "What {other do} {other} bring? {N} {gift.many}.",
        "What {third do} {third} bring? {M} {ware.many}.",
        "Who {it bring} {ware.many}? {Third}.",
        "Where {they do} they meet? At {who.place}.",
    ),
}  # fmt: skip

LOAN = {
    "loan": ("<borrow> <promise><pause><return>",),
    "borrow": (
        "{other}<tag other>{other borrow} {who.s} {trait} {tool} to <task>.",
        "{who}<tag who>{who lend} {who.her} {trait} {tool} to {other}, "
        "who {other want} to <task>.",
        "\"May I have your {trait} {tool}?\" {other}<tag other>{other ask} "
        "{who}. \"I want to <task>.\"",
    ),
    "task": (
        "mend a roof near <where>", "catch a <small> <animal>",
        "frighten the crows", "look for a lost <animal>", "move a piano",
        "make <smell> soup", "see <where> by night", "clear the drains",
        "surprise {friend}", "build a house for a <animal>", "win a bet",
    ),
    "promise": (
        "\"I'll bring it back on {day2},\" {other.she} <say other><tone other>",
        "{Other.she} {other promise} to bring it back on {day2}.",
        "\"Until {day2},\" {who} <say who><tone who>",
        "\"{Day2},\" {who} <say who>. \"And <warning>.\"",
    ),
    "warning": (
        "keep it dry", "no <animal> may sit on it", "not near <where>",
        "ask nothing", "mind the <smell>", "tell nobody",
    ),
    "return": (
        "On {day2} <weather>, and {other} {other bring} the {tool} back, "
        "<shape>. <fee>\n<loan question day2>",
        "{Day2} {it go} by. It {it be} {day3} when {other} {other come} with "
        "the {tool}, <shape>. <fee>\n<loan question day3>",
    ),
    "shape": (
        "clean as a spoon", "full of <smell>", "with a dent in it",
        "painted green", "in two pieces", "wrapped in newspaper",
        "with a <small> <animal> in it", "as good as new", "still warm",
    ),
    "fee": (
        "{Who} {who get} {gift.a} for {who.her} patience.",
        "<end who>",
        "And {other} {other bring} {gift.a} as well, for luck.",
    ),
    "loan question": (
        "When {it do} the {tool} come back? On {x}.",
        "Whose {tool} {it be} it? {Who.s}.",
        "Who {it borrow} the {tool}? {Other}.",
        "What {other do} {other} borrow? A {trait} {tool}.",
    ),
}  # fmt: skip

ERRAND = {
    "errand": ("<send> <way><pause><accident> <end who>\n<errand question>",),
    "send": (
        "{who}<tag who>{who send} {other} to {third.place} for {n} "
        "{ware.many}.",
        "{other}<tag other>{other go} to {third.place} to get {n} {ware.many} "
        "for {who}.",
        "\"Go to {third.place},\" {who}<tag who>{who tell} {other}, \"and "
        "bring me {n} {ware.many}.\"",
    ),
    "way": (
        "Near <where> a <small> <animal> {it follow} {other.him}.",
        "{Third}<tag third>{third wrap} them in <paper>.",
        "{Other} {other stop} only to <pastime>.",
        "\"{N}!\" {third}<tag third><say third><tone third>",
    ),
    "paper": (
        "paper", "an old map", "a page of poems", "straw", "a red scarf",
        "yesterday's news", "a flag", "a letter from {extra}",
    ),
    "pastime": (
        "look at <where>", "greet a <small> <animal>", "count the gulls",
        "smell the <smell>", "ask for the time", "throw stones into the river",
        "talk to {extra}", "tie {other.her} shoes",
    ),
    "accident": (
        "But on the way back {m} {they fall} into <mud>, and {who} {who get} "
        "only {n-m}.",
        "But a <small> <animal> {it run} off with {m}, so {who} {who get} "
        "{n-m ware}.",
        "Near <where> {m} of them {they break}. {Other} {other bring} {who} "
        "the other {n-m}.",
    ),
    "mud": (
        "the mud", "the river", "a bucket of <smell>", "a hole near <where>",
        "the mill race", "a pram", "deep snow", "the fountain",
    ),
    "errand question": (
        "How many {ware.many} {who do} {who} get? {N-m}.",
        "Where {other do} {other} go? To {third.place}.",
        "Who {it keep} {third.place}? {Third}.",
        "Who {it want} {ware.many}? {Who}.",
    ),
}  # fmt: skip

ESCAPE = {
    "escape": ("<loose> <damage><pause><chase> <amends>\n<escape question>",),
    "loose": (
        "{name}, {who.s} {trait} {pet}, {it be} loose again.",
        "{who}<tag who>{who forget} the gate, and {name} the {pet} {it run} "
        "off.",
        "Everyone {it know} {name}, {who.s} {trait} {pet}.",
    ),
    "damage": (
        "{Name} {it carry} off {m} of {other.s} {gift.many}.",
        "Near <where> {name} {it sit} down on {m} of {other.s} {gift.many}.",
        "\"Help!\" {other}<tag other><say other>. {M} of {other.her} "
        "{gift.many} {they be} under {name}.",
        "{Name} {it throw} {m} of {other.s} {gift.many} into <mud>.",
    ),
    "chase": (
        "{third}<tag third>{third catch} {name} {hideout} with <bait>.",
        "{Hideout}, around {hour2} o'clock, {third}<tag third>{third find} "
        "{name} asleep.",
        "It {it take} {third}<tag third>and <bait> to get {name}, who {it sit} "
        "{hideout}.",
    ),
    "bait": (
        "a carrot", "a song", "a net", "half a pie", "kind words", "a drum",
        "an umbrella", "a <small> <animal>", "a bag of <smell>", "a mirror",
    ),
    "amends": (
        "{Who} {who pay} {price} pence for each of the {gift.many}: "
        "{m*price} in all.",
        "At {price} pence each, {who} {who owe} {other} {m*price} pence.",
    ),
    "escape question": (
        "Who {it catch} {name}? {Third}.",
        "How much {who do} {who} pay? {M*price} pence.",
        "Where {it be} {name}? {Hideout}.",
        "What {it be} {name}? A {pet}.",
        "Whose {gift.many} {they be} they? {Other.s}.",
    ),
}  # fmt: skip

SEPARATOR = "\n\n"  # never inside a story
RULES = {**SCENE, **TALK, **LOST, **SHOP, **FEAST, **LOAN, **ERRAND, **ESCAPE}

# --- Words and their forms ---------------------------------------------------


@dataclass(frozen=True)
class Word:
    """What can fill a role: its forms ("" is the plain one), its number.

    `count` decides about the verb: 1 is singular. Of a number word it is the
    number. `goods` are what a person makes or sells.
    """

    forms: Mapping[str, str]
    count: int = 1
    goods: tuple["Word", ...] = ()


Facts = Mapping[str, Word]


def number_word(n: int) -> str:
    """A number from 0 to 39 in words; none is "no", as in "no loaves".

    >>> number_word(7), number_word(24), number_word(30)
    ('seven', 'twenty-four', 'thirty')
    """
    if n < len(UNITS):
        return UNITS[n]
    tens, ones = divmod(n, 10)
    return TENS[tens] + (f"-{UNITS[ones]}" if ones else "")


def make_thing(line: str) -> Word:
    """A thing from "loaf/loaves" or "bun"; a number from "seven".

    What is the same in both forms, like spectacles, takes a plural verb.
    """
    if line in UNITS:
        return Word({"": line}, UNITS.index(line))
    one, _, many = line.partition("/")
    pair = one == many
    forms = {"": one, "many": many or one + "s"}
    forms["a"] = ("an " if one[0] in "aeiou" else "a ") + one
    forms |= {"them": "them" if pair else "it"}
    return Word(forms, 2 if pair else 1)


def make_person(line: str) -> Word:
    """A person from a line of `PEOPLE`."""
    name, pronoun, trade, place, goods = line.split(" | ")
    forms = {"": name, "trade": trade, "place": place, **PRONOUNS[pronoun]}
    forms["s"] = name + "'s"
    made = tuple(make_thing(thing) for thing in goods.split())
    return Word(forms, 2 if pronoun == "they" else 1, made)


def make_tables() -> dict[str, tuple[Word, ...]]:
    """All tables, as words; "people" among them."""
    tables = {
        name: tuple(make_thing(line.strip()) for line in lines.split(";"))
        for name, lines in TABLES.items()
    }
    people = PEOPLE.strip().splitlines()
    return {**tables, "people": tuple(make_person(line) for line in people)}


WORDS = make_tables()
START: Facts = {"it": Word({}, 1), "they": Word({}, 2)}


def conjugate(verb: str, count: int, tense: str) -> str:
    """The verb's form for a subject of this number, "past" or "present".

    >>> conjugate("carry", 1, "present"), conjugate("carry", 2, "past")
    ('carries', 'carried')
    >>> conjugate("be", 1, "past"), conjugate("be", 2, "past")
    ('was', 'were')
    """
    if verb == "be":
        singular, plural = ("was", "were") if tense == "past" else ("is", "are")
        return singular if count == 1 else plural
    vowel = verb[-2] in "aeiou"
    stem = verb[:-1] + "i" if verb[-1] == "y" and not vowel else verb
    if tense == "past":
        regular = verb + "d" if verb[-1] == "e" else stem + "ed"
        return PAST.get(verb, regular)
    if count != 1:
        return verb
    if verb == "have":
        return "has"
    hissing = verb.endswith(("s", "sh", "ch", "x", "o"))
    return stem + ("es" if hissing or stem != verb else "s")


# --- Templates ---------------------------------------------------------------


class Rule(NamedTuple):
    """A place where one of a rule's templates goes: `<weather>`."""

    name: str


class Slot(NamedTuple):
    """A place for a word: `{Who.she}`, `{who sell}`, `{n-m item}`.

    `subject` is a role, or a sum of two with `sign` and `second`. After a
    dot comes a `form`; after a space a role, to be counted, or a `verb`.
    """

    subject: str
    sign: str
    second: str
    form: str
    verb: str
    capital: bool


Part = str | Rule | Slot
SLOT = re.compile(r"(\w+)(?:([-+*])(\w+))?(?:\.(\w+)|[ ](\w+))?")


def parse_slot(text: str) -> Slot:
    """The slot that stands between braces."""
    found = SLOT.fullmatch(text)
    if found is None:
        raise ValueError(f"{{{text}}} is no slot of the town's grammar")
    subject, sign, second, form, verb = (part or "" for part in found.groups())
    capital = subject[0].isupper()
    return Slot(subject.lower(), sign, second, form, verb, capital)


def parse(template: str) -> tuple[Part, ...]:
    """A template's parts in order: text, slots and rules."""
    parts: list[Part] = []
    for piece in re.split(r"(\{[^}]*\}|<[^>]*>)", template):
        if piece.startswith("{"):
            parts.append(parse_slot(piece[1:-1]))
        elif piece.startswith("<"):
            parts.append(Rule(piece[1:-1]))
        elif piece:
            parts.append(piece)
    return tuple(parts)


@cache
def templates(name: str) -> tuple[tuple[Part, ...], ...]:
    """A rule's templates; "tag who" is the rule "tag" with who for x."""
    rule, role = name, ""
    if name not in RULES:
        rule, _, role = name.rpartition(" ")
    lines = RULES[rule]
    if role:
        lines = tuple(
            re.sub(r"(?<=[{ ])x(?=[ .>}])", role, line) for line in lines
        )
        lines = tuple(
            re.sub(r"(?<=\{)X(?=[ .}])", role.capitalize(), line)
            for line in lines
        )
    return tuple(parse(line) for line in lines)


# --- Writing -----------------------------------------------------------------


Option = Word | tuple[Part, ...]


class Choice(NamedTuple):
    """A point where the story may go on in several ways.

    `options` are what to take: templates of a rule, or words for a role.
    `todo` is what is still to be written, `facts` what has been said.
    """

    name: str
    options: Sequence[Option]
    todo: tuple[Part, ...]
    facts: Facts

    def take(self, option: int) -> tuple[tuple[Part, ...], Facts]:
        """What is to be written, and the facts, after taking an option."""
        taken = self.options[option]
        if isinstance(taken, Word):
            return self.todo, {**self.facts, self.name: taken}
        return taken + self.todo, self.facts


def candidates(role: str, facts: Facts) -> list[Word]:
    """The words that can fill a role: no word plays two in one story."""
    table = ROLES[role]
    words = WORDS[table] if table in WORDS else facts[table].goods
    taken = {id(word) for word in facts.values()}
    return [word for word in words if id(word) not in taken]


def first_empty(slot: Slot, facts: Facts) -> str:
    """The first role that has to be filled before the slot is, or ""."""
    counted = slot.verb if slot.verb in ROLES else ""
    tense = "tense" if slot.verb and not counted else ""
    for role in (slot.subject, slot.second, counted, tense):
        if role and role not in facts:
            return role
    return ""


def calculate(slot: Slot, facts: Facts) -> Word:
    """The slot's subject: a word of the facts, or a sum of two."""
    if not slot.sign:
        return facts[slot.subject]
    a, b = facts[slot.subject].count, facts[slot.second].count
    n = {"+": a + b, "-": a - b, "*": a * b}[slot.sign]
    return Word({"": number_word(n)}, n)


def inflect(slot: Slot, facts: Facts) -> str:
    """The text of a slot whose roles are filled."""
    subject = calculate(slot, facts)
    if slot.verb in ROLES:
        thing = facts[slot.verb].forms["" if subject.count == 1 else "many"]
        text = f"{subject.forms['']} {thing}"
    elif slot.verb:
        tense = facts["tense"].forms[""]
        text = conjugate(slot.verb, subject.count, tense)
    else:
        text = subject.forms[slot.form]
    return text[0].upper() + text[1:] if slot.capital else text


def advance(todo: tuple[Part, ...], facts: Facts) -> tuple[str, Choice | None]:
    """Write what is certain, up to the next choice or to the end (None)."""
    written = ""
    for place, part in enumerate(todo):
        if isinstance(part, str):
            written += part
        elif isinstance(part, Rule):
            rest = todo[place + 1 :]
            return written, Choice(part.name, templates(part.name), rest, facts)
        elif role := first_empty(part, facts):
            words = candidates(role, facts)
            return written, Choice(role, words, todo[place:], facts)
        else:
            written += inflect(part, facts)
    return written, None


@dataclass(frozen=True)
class Story:
    """A story and the logarithm of its probability, in nats."""

    text: str
    log_prob: float


def weight_sums(k: int) -> list[int]:
    """Running sums of the weights k, k - 1, ..., 1 of k alternatives.

    >>> weight_sums(3)
    [3, 5, 6]
    """
    return list(accumulate(range(k, 0, -1)))


def tell(generator: random.Random) -> Story:
    """Tell one story, with one random number for each choice."""
    text, log_prob = "", 0.0
    todo, facts = parse("<story>"), START
    while True:
        written, choice = advance(todo, facts)
        text += written
        if choice is None:
            return Story(text, log_prob)
        k = len(choice.options)
        sums = weight_sums(k)
        option = bisect_right(sums, generator.random() * sums[-1])
        log_prob += math.log((k - option) / sums[-1])
        todo, facts = choice.take(option)


def write_stories(seed: int) -> Iterator[Story]:
    """Stories without end; the same seed tells the same ones everywhere.

    Only `random.Random.random` is used, which Python promises to keep.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; take one from 0 on")
    generator = random.Random(seed)
    while True:
        yield tell(generator)


def write_corpus(characters: int = 1_000_000, seed: int = 2026) -> list[Story]:
    """The first stories that together have at least so many characters.

    The blank line after each, which `join` adds, is counted.
    """
    stories: list[Story] = []
    source, total = write_stories(seed), 0
    while total < characters:
        stories.append(next(source))
        total += len(stories[-1].text) + len(SEPARATOR)
    return stories


# --- Reading -----------------------------------------------------------------


class Step(NamedTuple):
    """A choice as it was made: for what, which, where, and its surprise."""

    name: str
    option: int
    start: int
    nats: float


def derivations(text: str) -> list[list[Step]]:
    """All the ways in which the grammar can tell this very text.

    There is never more than one: of two alternatives none ever begins with
    the other, so the text gives every choice away. Empty if the town does
    not tell such stories. The search is over prefixes of the text, and the
    end of the text has to be the end of the story.
    """
    found = []
    open_paths: list[tuple[int, tuple[Part, ...], Facts, list[Step]]] = [
        (0, parse("<story>"), START, [])
    ]
    while open_paths:
        start, todo, facts, steps = open_paths.pop()
        written, choice = advance(todo, facts)
        if not text.startswith(written, start):
            continue
        start += len(written)
        if choice is None:
            if start == len(text):
                found.append(steps)
            continue
        sums = weight_sums(len(choice.options))
        for option in range(len(sums)):
            nats = math.log(sums[-1] / (len(sums) - option))
            step = Step(choice.name, option, start, nats)
            open_paths.append((start, *choice.take(option), [*steps, step]))
    return found


def log_probability(text: str) -> float:
    """The logarithm of the probability that the town tells this text.

    In nats; minus infinity for a text that it never tells.
    """
    total = sum(
        math.exp(-sum(step.nats for step in steps))
        for steps in derivations(text)
    )
    return math.log(total) if total else -math.inf


# --- A corpus ----------------------------------------------------------------


@dataclass(frozen=True)
class Splits:
    """Stories to learn from, to choose by, and to be judged by once."""

    train: list[Story]
    validation: list[Story]
    test: list[Story]


def split_stories(stories: Sequence[Story]) -> Splits:
    """18 stories of each 20 to train, one to validate and one to test.

    By place, not by lot: a story stays on its side when the corpus grows.
    """
    if len(stories) < 20:
        raise ValueError(
            f"{len(stories)} stories are too few to split; take 20 or more, "
            "that is about 10,000 characters"
        )
    places = range(len(stories))
    return Splits(
        [stories[i] for i in places if i % 20 < 18],
        [stories[i] for i in places if i % 20 == 18],
        [stories[i] for i in places if i % 20 == 19],
    )


def join(stories: Sequence[Story]) -> str:
    """The texts one after another, a blank line after each."""
    return "".join(story.text + SEPARATOR for story in stories)


def entropy_per_character(stories: Sequence[Story]) -> float:
    """Nats for each character of `join(stories)`, blank lines counted.

    The mean surprise of these very stories. For many of them it is the
    entropy of the grammar; for these it is what no model can beat but by
    luck.
    """
    return entropy_per_token(stories, len(join(stories)))


def entropy_per_token(stories: Sequence[Story], tokens: int) -> float:
    """Nats per token, where `tokens` counts one end token for each story.

    A story is never the beginning of another, so after its last character
    the end is certain: an end token is counted and costs nothing.
    """
    if tokens < 1:
        raise ValueError(f"{tokens} tokens are none to take a mean over")
    return -sum(story.log_prob for story in stories) / tokens
