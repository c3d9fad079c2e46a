"""Words, and those that say nothing."""

# ruff: noqa: SIM905, RUF001 - word lists read better as text; the typographic apostrophe is meant

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

WORD = re.compile(r"\d++(?:[.,]\d++)++|\w+(?:['’-]\w+)*")

_LANGUAGE_SAMPLE_WORDS = 5000

_ENGLISH = frozenset(
    """
    a about above after again against all also although am an and any are aren't as at be because been before being
    below between both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each
    either else etc even ever every few for from further get gets got had hadn't has hasn't have haven't having he
    he'd he'll he's hence her here hers herself him himself his how however i i'd i'll i'm i've if in into is isn't it
    it's its itself just let's less like many may me might more most much must mustn't my myself neither never no nor
    not now of off often on once one only or other others otherwise ought our ours ourselves out over own per rather
    same shall shan't she she'd she'll she's should shouldn't since so some still such than that that's the their
    theirs them themselves then there there's therefore these they they'd they'll they're they've this those though
    through thus to too under until up upon us very was wasn't we we'd we'll we're we've were weren't what what's when
    when's where where's whether which while who who's whom whose why why's will with within without won't would
    wouldn't yet you you'd you'll you're you've your yours yourself yourselves
    """.split()
)
_GERMAN = frozenset(
    """
    ab aber alle allem allen aller alles als also am an ander andere anderem anderen anderer anderes auch auf aus bei
    beim bin bis bist da dabei dadurch dafür dagegen daher dahin damit dann daran darauf daraus darin darüber darum das
    dass daß davon dazu dein deine dem den denn dennoch der deren des dessen desto dich die dies diese diesem diesen
    dieser dieses dir doch dort du durch ebenso ein eine einem einen einer eines einige einigen einiger er es etwa
    etwas euch euer für gegen gewesen hab habe haben hat hatte hatten hier hin hinter ich ihm ihn ihnen ihr ihre ihrem
    ihren ihrer ihres im immer in indem ins ist ja jede jedem jeden jeder jedes jedoch jene jenem jenen jener jenes
    jetzt kann kein keine keinem keinen keiner können könnte man manche mehr mein meine mich mir mit muss müssen muß
    nach nachdem nicht nichts noch nun nur ob oder ohne schon sehr sein seine seinem seinen seiner seit sich sie sind
    so sobald solche solchen soll sollen sollte sondern sonst sowie über um und uns unser unsere unter viel vom von vor
    während war waren warum was weg weil weiter welche welchem welchen welcher welches wenn wer werde werden wie wieder
    will wir wird wo wobei wollen worden wurde wurden zu zum zur zwar zwischen
    """.split()
)


def words(text: str) -> list[str]:
    """The words of `text`, in order; an apostrophe or a hyphen inside a word belongs to it.

    A number is a word, with its decimals.
    """
    return WORD.findall(text)


def folded(word: str) -> str:
    """`word` in the form in which it is compared: without case, and with one kind of apostrophe."""
    return word.casefold().replace("’", "'")


def stopwords(sample: Iterable[str]) -> frozenset[str]:
    """The words without content in the language of `sample` (folded words): English, unless it looks German.

    Not both at once: `die`, `war` and `hat` say nothing in German and much in English.
    """
    counted = Counter(word for word, _ in zip(sample, range(_LANGUAGE_SAMPLE_WORDS), strict=False))
    english = sum(counted[word] for word in _ENGLISH)
    german = sum(counted[word] for word in _GERMAN)
    # folded: "daß" and "muß" are compared as "dass" and "muss"
    return frozenset(map(folded, _GERMAN)) if german > english else _ENGLISH
