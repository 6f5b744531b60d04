import re
import time
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_texts import HOSTILE, answered, lines_of

from dvaojax import errors
from dvaojax.errors import UserError
from dvaojax.rewards import RewardSuite
from dvaojax.rewards import instructions as ifeval
from dvaojax.rewards.instructions import CHECKS, Instruction, format_checks
from dvaojax.rewards.instructions.instruction import LANGUAGE_KINDS
from dvaojax.rewards.instructions.language import detected_language
from dvaojax.types import Prompt

RULES = (ifeval.strictly, ifeval.loosely, ifeval.ifeval_strictly, ifeval.ifeval_loosely)

SENTENCES = {
    "ar": "هذا نص قصير باللغة العربية عن الطقس في المدينة اليوم.",
    "bg": "Това е кратък текст на български език за времето в нашия град днес.",  # noqa: RUF001
    "bn": "এটি আজ আমাদের শহরের আবহাওয়া সম্পর্কে একটি ছোট বাংলা লেখা।",
    "de": "Das ist ein kurzer Text über das Wetter, das heute in unserer Stadt herrscht.",
    "en": "This is a short text about the weather that we have in our town today.",
    "fa": "این یک متن کوتاه به زبان فارسی درباره هوای امروز شهر ما است.",
    "fi": "Tämä on lyhyt suomenkielinen teksti kaupunkimme tämänpäiväisestä säästä.",
    "gu": "આ આજે આપણા શહેરના હવામાન વિશે એક ટૂંકું ગુજરાતી લખાણ છે.",
    "hi": "यह आज हमारे शहर के मौसम के बारे में हिंदी में एक छोटा लेख है।",
    "it": "Questo è un breve testo sul tempo che fa oggi nella nostra città.",
    "kn": "ಇದು ಇಂದು ನಮ್ಮ ನಗರದ ಹವಾಮಾನದ ಬಗ್ಗೆ ಕನ್ನಡದಲ್ಲಿ ಒಂದು ಸಣ್ಣ ಬರಹ.",
    "ko": "이것은 오늘 우리 도시의 날씨에 대한 짧은 한국어 글입니다.",
    "mr": "हा आज आपल्या शहरातील हवामानाबद्दल मराठीत लिहिलेला एक छोटा मजकूर आहे.",
    "ne": "यो आज हाम्रो सहरको मौसमको बारेमा नेपालीमा लेखिएको छोटो लेख हो।",
    "pa": "ਇਹ ਅੱਜ ਸਾਡੇ ਸ਼ਹਿਰ ਦੇ ਮੌਸਮ ਬਾਰੇ ਪੰਜਾਬੀ ਵਿੱਚ ਇੱਕ ਛੋਟੀ ਲਿਖਤ ਹੈ।",
    "pt": "Este é um texto curto sobre o tempo que está a fazer hoje na nossa cidade.",
    "ru": "Это короткий текст на русском языке о погоде в нашем городе сегодня.",  # noqa: RUF001
    "sw": "Haya ni maandishi mafupi ya Kiswahili kuhusu hali ya hewa katika mji wetu leo.",
    "ta": "இது இன்று எங்கள் நகரத்தின் வானிலை பற்றிய ஒரு சிறிய தமிழ் உரை.",
    "te": "ఇది ఈ రోజు మా నగరంలోని వాతావరణం గురించి ఒక చిన్న తెలుగు రచన.",
    "th": "นี่คือข้อความสั้น ๆ ภาษาไทยเกี่ยวกับสภาพอากาศในเมืองของเราวันนี้",
    "ur": "یہ آج ہمارے شہر کے موسم کے بارے میں اردو میں ایک مختصر تحریر ہے۔",  # noqa: RUF001
    "vi": "Đây là một đoạn văn ngắn bằng tiếng Việt về thời tiết hôm nay ở thành phố.",
}


def some(count, relation):
    """A number that is "less than" or "at least" a count."""
    return count - 1 if relation == "less than" else count


def paragraphs_with_first_word(num_paragraphs, nth_paragraph, first_word):
    paragraphs = ["Text."] * num_paragraphs
    paragraphs[nth_paragraph - 1] = f'"{first_word.upper()}, and on.'
    return "\n\n".join(paragraphs)


WITNESSES = {
    "change_case:capital_word_frequency": lambda capital_frequency, capital_relation: (
        "WORD " * some(capital_frequency, capital_relation) + "and more"
    ),
    "change_case:english_capital": lambda: SENTENCES["en"].upper(),
    "change_case:english_lowercase": lambda: SENTENCES["en"].lower(),
    "combination:repeat_prompt": lambda prompt_to_repeat: f" {prompt_to_repeat.upper()}\nHere.",
    "combination:two_responses": lambda: "One.\n******\nAnother.",
    "detectable_content:number_placeholders": lambda num_placeholders: "[one] " * num_placeholders,
    "detectable_content:postscript": lambda postscript_marker: f"Text.\n{postscript_marker} More.",
    "detectable_format:constrained_response": lambda: "My answer is maybe.",
    "detectable_format:json_format": lambda: '```json\n{"a": [1, 2]}\n```',
    "detectable_format:multiple_sections": lambda section_spliter, num_sections: "\n".join(
        f"{section_spliter} {number + 1}\nText." for number in range(num_sections)
    ),
    "detectable_format:number_bullet_lists": lambda num_bullets: "Text:\n" + "* a\n" * num_bullets,
    "detectable_format:number_highlighted_sections": lambda num_highlights: "*a* " * num_highlights,
    "detectable_format:title": lambda: "<<A title>>\nText.",
    "keywords:existence": lambda keywords: " ".join(keywords).upper(),
    "keywords:forbidden_words": lambda forbidden_words: " ".join(f"{w}x" for w in forbidden_words),
    "keywords:frequency": lambda keyword, frequency, relation: (
        f"{keyword} " * some(frequency, relation) + "."
    ),
    "keywords:letter_frequency": lambda letter, let_frequency, let_relation: (
        letter.upper() * some(let_frequency, let_relation) + "."
    ),
    "language:response_language": lambda language: SENTENCES[language],
    "length_constraints:nth_paragraph_first_word": paragraphs_with_first_word,
    "length_constraints:number_paragraphs": lambda num_paragraphs: "\n***\n".join(
        ["Text."] * num_paragraphs
    ),
    "length_constraints:number_sentences": lambda num_sentences, relation: (
        "Dr. Smith said so. " * some(num_sentences, relation) or "..."
    ),
    "length_constraints:number_words": lambda num_words, relation: (
        "word " * some(num_words, relation)
    ),
    "punctuation:no_comma": lambda: "Text without.",
    "startend:end_checker": lambda end_phrase: f"Text. {end_phrase.upper()}\n",
    "startend:quotation": lambda: ' "Text." ',
}
"""Kind -> function from its arguments to an answer that follows it."""


@pytest.fixture(scope="module")
def rows():
    return [
        ifeval.instructions(row["instruction_id_list"], row["kwargs"])
        for row in lines_of("ifeval", "input_data.jsonl")
    ]


def test_every_ifeval_instruction_can_be_followed(rows):
    assert sum(map(len, rows)) == 834
    assert {each.kind for row in rows for each in row} == set(CHECKS)
    for row in rows:
        for number, each in enumerate(row):
            completion = answered(WITNESSES[each.kind](**each.arguments))
            for rule in RULES:
                assert ifeval.followed(completion, row, number=number, rule=rule) == 1.0, each


def test_three_objectives_cover_every_prompt_of_ifeval(rows):
    applies = [
        [
            ifeval.followed(answered(""), row, number=n, rule=ifeval.strictly) is not None
            for n in range(4)
        ]
        for row in rows
    ]
    assert [sum(column) for column in zip(*applies, strict=True)] == [541, 179 + 57, 57, 0]


TITLE = Instruction("detectable_format:title")
COMMAS = Instruction("punctuation:no_comma")
JSON = Instruction("detectable_format:json_format")


def test_all_followed_and_share_followed():
    both = (TITLE, COMMAS)
    expected = {"<<A>>": (1, 1), "<<A,>>": (0, 0.5), "A": (0, 0.5), ",": (0, 0), "": (0, 0)}
    for text, (whole, share) in expected.items():
        for rule in RULES:
            assert ifeval.all_followed(answered(text), both, rule=rule) == whole
            assert ifeval.share_followed(answered(text), both, rule=rule) == share
    assert ifeval.share_followed(answered("A"), (), rule=ifeval.strictly) is None


def test_suite_masks_missing_instructions():
    objectives = {
        f"instruction {number + 1}": partial(ifeval.followed, number=number, rule=ifeval.strictly)
        for number in range(3)
    }
    prompts = [Prompt("", (TITLE,), 0), Prompt("", (COMMAS, TITLE), 1)]
    group = [answered("<<A>>"), answered("<<A>>, b"), answered("b")]
    with RewardSuite(objectives) as suite:
        scores = suite.score([group] * 2, prompts)
    assert scores.mask.tolist() == [[[True, False, False]] * 3, [[True, True, False]] * 3]
    assert scores.rewards.tolist() == [
        [[1, 0, 0], [1, 0, 0], [0, 0, 0]],
        [[1, 1, 0], [0, 1, 0], [1, 0, 0]],
    ]


@pytest.mark.parametrize(
    ("kind", "arguments", "followed", "not_followed"),
    [
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 2, "capital_relation": "at least"},
            ["The U.S. and GPT-4", "I SEE"],
            ["The US and", "a b"],
        ),
        ("change_case:english_capital", {}, ["THE WEATHER IS FINE TODAY"], ["The weather is fine"]),
        (
            "combination:two_responses",
            {},
            ["a******b", "******a******b"],
            ["a******a", "a", "a******b******c", "a****** ******b"],
        ),
        (
            "detectable_content:number_placeholders",
            {"num_placeholders": 2},
            ["[a][b]", "[[a] [b]"],
            ["[a\n] [b]", "[[a]]"],
        ),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["p. p. s"], ["P.S. a"]),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["text p.s."], ["PS. a"]),
        (
            "detectable_format:json_format",
            {},
            ["[1]", "```{}```", "NaN"],
            ["a", "{}.", "[1", "[" * 9_999],
        ),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "Part", "num_sections": 2},
            ["Part 1 Part2"],
            ["Part one Part 2", "part 1 part 2"],
        ),
        (
            "detectable_format:number_bullet_lists",
            {"num_bullets": 2},
            ["* a\n - b", "-a\n\n\n*b\nc"],
            ["* a", "** a\n** b", "a * b\n* c", "- a\n- b\n- c"],
        ),
        (
            "detectable_format:number_highlighted_sections",
            {"num_highlights": 2},
            ["*a* *b*", "**a** *b*"],
            ["**a**", "* * **", "*a\n* b"],
        ),
        (
            "detectable_format:title",
            {},
            ["a <<b>> c", "<<a>b>>"],
            ["<<>>", "<< >>", "<<a\n>>", ">>a<<"],
        ),
        ("keywords:existence", {"keywords": ["cat", "dog"]}, ["Dogma concatenated"], ["dog"]),
        ("keywords:existence", {"keywords": ["c++"]}, ["C++"], ["cc"]),
        (
            "keywords:forbidden_words",
            {"forbidden_words": ["cat"]},
            ["cats", "dog"],
            ["a Cat.", "cat-like"],
        ),
        (
            "keywords:letter_frequency",
            {"letter": "a", "let_frequency": 2, "let_relation": "less than"},
            ["Abc"],
            ["Aha"],
        ),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Well"},
            ["a\n\nwell's done", "a\n\n'well, b\n\n "],
            ["well\n\na", "a\n\nwells", "a\n\nwell\n\nb", "a\nwell"],
        ),
        (
            "length_constraints:number_paragraphs",
            {"num_paragraphs": 2},
            ["a***b", "***a***b***"],
            ["a", "a***\n***b", "a\n\nb"],
        ),
        (
            "length_constraints:number_sentences",
            {"num_sentences": 2, "relation": "at least"},
            ["It is so. It was.", "So? Yes!"],
            ["It cost 3.50 then", "Dr. Smith came."],
        ),
        (
            "length_constraints:number_words",
            {"num_words": 3, "relation": "less than"},
            ["one two"],
            ["don't go"],
        ),
        ("startend:end_checker", {"end_phrase": "The end."}, ['"a THE END."'], ["The end"]),
        ("startend:quotation", {}, ['"a"', '""'], ['"', '"a".']),
    ],
)
def test_strict_checks(kind, arguments, followed, not_followed):
    for text in followed:
        assert ifeval.strictly(text, Instruction(kind, arguments)), text
    for text in not_followed:
        assert not ifeval.strictly(text, Instruction(kind, arguments)), text


PARAGRAPH = "length_constraints:nth_paragraph_first_word"
SECOND = {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "lakes"}
FIRST = {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "rivers"}
FORBIDDEN = "keywords:forbidden_words"
CAFE, CAFE_DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("kind", "arguments", "text", "recommended", "published"),
    [
        # Blank paragraphs are not numbered.
        (PARAGRAPH, FIRST, "<think>plan</think>\n\nRivers run.\n\nLakes rest.", True, False),
        (PARAGRAPH, FIRST, "\n\n\nRivers run.\n\nLakes rest.", True, False),
        (PARAGRAPH, SECOND, "Rivers run.\n\n\n\nLakes rest.", True, False),
        (PARAGRAPH, SECOND, "Rivers run.\n \t\nLakes rest.\n\n", True, False),
        (PARAGRAPH, SECOND, "Rivers run.\r\n\r\nLakes rest.", True, False),
        (PARAGRAPH, SECOND, "Rivers run.\n\n\nLakes rest.\n\n\nSeas.", False, False),
        (PARAGRAPH, SECOND, "Rivers run.\n\n**Lakes** rest.", True, False),
        (PARAGRAPH, SECOND, "Rivers run.\n\nLakes: all rest.", True, False),
        (PARAGRAPH, SECOND, "Rivers run.\n\nLakeside rests.", False, False),
        (PARAGRAPH, SECOND, "Lakes rest.\n\n\n\nRivers run.", False, False),
        (PARAGRAPH, {**SECOND, "first_word": ".NET"}, "One.\n\n.NET runs.", True, False),
        # The language of capitals.
        ("change_case:english_capital", {}, "SALE ENDS SUNDAY. SHOP NOW.", True, False),
        ("change_case:english_capital", {}, "I LOVE MY DOG. HE IS BROWN AND SMALL.", True, False),
        ("change_case:english_capital", {}, "DOGS BARK LOUDLY AT NIGHT", True, False),
        ("change_case:english_capital", {}, "I LOVE MY DOG. He is brown.", False, False),
        ("change_case:english_capital", {}, SENTENCES["de"].upper(), False, False),
        ("change_case:english_capital", {}, "CECI EST UN TEXTE EN FRANCAIS", False, True),
        ("language:response_language", {"language": "en"}, "GOOD MORNING EVERYONE", True, False),
        ("language:response_language", {"language": "de"}, "GOOD MORNING EVERYONE", False, True),
        # Words with symbols and marks at their ends.
        (FORBIDDEN, {"forbidden_words": ["C++"]}, "We wrote it in C++ last year.", False, True),
        (FORBIDDEN, {"forbidden_words": ["c++"]}, "C++", False, True),
        (FORBIDDEN, {"forbidden_words": ["C#"]}, "Written in C#, mostly.", False, True),
        (FORBIDDEN, {"forbidden_words": [".NET"]}, "We use .NET here.", False, True),
        (FORBIDDEN, {"forbidden_words": ["$5"]}, "It costs $5.", False, True),
        (FORBIDDEN, {"forbidden_words": ["$5"]}, "It costs $50.", True, True),
        (FORBIDDEN, {"forbidden_words": ["cat"]}, "a concatenated cat_name", True, True),
        (FORBIDDEN, {"forbidden_words": ["a a"]}, "ba a a", False, False),
        (FORBIDDEN, {"forbidden_words": ["की"]}, "कीमत", True, False),
        (FORBIDDEN, {"forbidden_words": ["की"]}, "आज की बात", False, True),
        # Unicode's forms of one text.
        ("keywords:existence", {"keywords": [CAFE]}, f"A {CAFE_DECOMPOSED}.", True, False),
        ("keywords:existence", {"keywords": [CAFE_DECOMPOSED]}, f"A {CAFE.upper()}.", True, False),
        (FORBIDDEN, {"forbidden_words": [CAFE]}, f"A {CAFE_DECOMPOSED}.", False, True),
        ("startend:end_checker", {"end_phrase": CAFE}, f"A {CAFE_DECOMPOSED}", True, False),
        (
            "keywords:frequency",
            {"keyword": CAFE, "frequency": 2, "relation": "less than"},
            f"{CAFE} {CAFE_DECOMPOSED}",
            False,
            True,
        ),
        (
            "length_constraints:number_words",
            {"num_words": 2, "relation": "less than"},
            "re\u0301sume\u0301",
            True,
            False,
        ),
    ],
)
def test_recommended_checks_avoid_defects_of_the_published_ones(
    kind, arguments, text, recommended, published
):
    instruction = Instruction(kind, arguments)
    assert ifeval.strictly(text, instruction) is recommended
    assert ifeval.ifeval_strictly(text, instruction) is published
    assert ifeval.loosely(text, instruction) >= recommended


def test_loosely_the_first_line_is_the_first_after_the_thought():
    text = "<think>plan</think>\n\nSure, here it is:\n{}"
    assert ifeval.loosely(text, JSON)


def test_many_combining_marks_are_checked_quickly():
    start = time.process_time()
    forbidden = Instruction(FORBIDDEN, {"forbidden_words": [CAFE]})
    assert ifeval.loosely("a" + "\u0316\u0301" * 50_000, forbidden)
    assert time.process_time() - start < 5.0


def test_loose_checks_ignore_first_and_last_line_and_asterisks():
    text = "Sure, here it is:\n**{}**\nIs there anything, else?"
    for loose, strict in (
        (ifeval.loosely, ifeval.strictly),
        (ifeval.ifeval_loosely, ifeval.ifeval_strictly),
    ):
        for instruction in (JSON, COMMAS):
            assert loose(text, instruction)
            assert not strict(text, instruction)
        assert not loose(text + "\nWell?", JSON)
        assert not loose("\n \n", COMMAS)


def test_only_ifeval_rules_check_the_thought():
    text = "<think> well, </think>\n{}"
    for recommended, published in zip(RULES[:2], RULES[2:], strict=True):
        for instruction in (JSON, COMMAS):
            assert recommended(text, instruction)
        assert not published(text.replace("\n", ""), COMMAS)
    assert not ifeval.loosely("{} </think> [", JSON)


def test_undetectable_language_passes_only_ifeval_rules():
    for kind in LANGUAGE_KINDS - {
        "change_case:english_capital",
        "change_case:english_lowercase",
    }:
        instruction = Instruction(kind, {"language": "de"})
        for text in ("12345", "{}" * 100, "\x00"):
            assert [rule(text, instruction) for rule in RULES] == [False, False, True, True]
    # Capital letters without a detectable language.
    circled = "\N{CIRCLED LATIN CAPITAL LETTER A}"
    capitals = Instruction("change_case:english_capital")
    assert [rule(circled, capitals) for rule in RULES] == [False, False, True, True]


@pytest.mark.parametrize("language", SENTENCES)
def test_language_detection_is_deterministic(language):
    assert {detected_language(SENTENCES[language]) for _ in range(3)} == {language}


def test_rejects_unknown_instructions_and_arguments():
    with pytest.raises(
        UserError, match=r"'punctuation:no_commas'.*did you mean 'punctuation:no_comma'"
    ):
        Instruction("punctuation:no_commas")
    with pytest.raises(UserError, match=r"'detectable_format:title': .*'colour'"):
        Instruction("detectable_format:title", {"colour": "red"})
    with pytest.raises(UserError, match=r"'startend:end_checker': .*'end_phrase'"):
        ifeval.instructions(["startend:end_checker"], [{"end_phrase": None}])
    with pytest.raises(UserError, match="2 instructions, but 1 sets"):
        ifeval.instructions(["punctuation:no_comma"] * 2, [{}])


def test_arguments_that_are_none_are_dropped():
    assert ifeval.instructions(["detectable_format:title"], [{"num_words": None}]) == (TITLE,)


def test_missing_extra_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    ifeval.language._langdetect()
    ifeval.language._sentence_splitter.cache_clear()
    monkeypatch.setattr(errors.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"punkt is not installed: pip install '.\[ifeval\]'"):
        ifeval.language.count_sentences("One.")


# Compares the linear scans with IFEval's own patterns.
lines = st.text(alphabet="[]<>*- a\n\t\x0b", max_size=25)


@settings(deadline=None)
@given(lines, st.integers(0, 4))
def test_scans_equal_ifeval_patterns(text, count):
    assert format_checks.has_placeholders(text, num_placeholders=count) == (
        len(re.findall(r"\[.*?\]", text)) >= count
    )
    bullets = re.findall(r"^\s*\*[^\*].*$|^\s*-.*$", text, re.MULTILINE)
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    assert len(bullets) <= len(stars) + len(dashes)
    assert format_checks.has_bullets(text, num_bullets=count) == (len(stars) + len(dashes) == count)
    titles = re.findall(r"<<[^\n]+>>", text)
    assert format_checks.has_title(text) == any(
        each.lstrip("<").rstrip(">").strip() for each in titles
    )


@pytest.fixture(scope="module")
def one_of_each_kind(rows):
    return {each.kind: each for row in rows for each in row}.values()


# The rules take about the same time, so the default run checks one of them.
@pytest.mark.parametrize(
    "rule", [ifeval.ifeval_strictly, pytest.param(ifeval.loosely, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers_are_checked_quickly(text, rule, one_of_each_kind):
    start = time.process_time()
    followed = [rule(text, instruction) for instruction in one_of_each_kind]
    assert time.process_time() - start < 15.0
    assert not any(followed) or text.strip()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers_follow_no_positive_instruction(text):
    for kind in ("detectable_format:title", "change_case:english_capital", "startend:quotation"):
        assert not ifeval.strictly(text, Instruction(kind))
    german = Instruction("language:response_language", {"language": "de"})
    assert not ifeval.strictly(text, german)


@settings(deadline=None, max_examples=25)
@given(st.text(alphabet="aA.,*\n[]<>\"'{}# \ud800\x00", max_size=30))
def test_rules_never_raise_and_loose_is_never_stricter(one_of_each_kind, text):
    for instruction in one_of_each_kind:
        strict, loose, published, published_loose = (rule(text, instruction) for rule in RULES)
        assert strict <= loose
        assert published <= published_loose
