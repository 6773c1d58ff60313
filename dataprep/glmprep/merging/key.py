"""The key information of a text: what no merging may drop.

These are numbers and quantities, dates and times, names, addresses, ids, tool calls and negations.
Found are rather too many than too few: what is key only keeps a change from being made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

NUMERALS = "零〇一二三四五六七八九十百千万亿两几半"
MEASURES = (
    "个年月日号天周岁块元角分毛次点秒人名位米斤克吨升倍成折度层楼页条件张只本台辆套间段章节题"
    "遍种批级期届轮步项款瓶杯盒包袋箱片颗粒支部份趟场句些下"
)
LONG_MEASURES = "小时|分钟|星期|礼拜|公里|公斤|厘米|毫米|毫克|毫升|平方|美元|人民币|百分"
SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡"
    "贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段"
    "雷钱汤尹黎易常武乔贺赖龚文殷董"
)
TITLES = (
    "先生|女士|小姐|老师|医生|大夫|护士|教授|博士|律师|法官|总|经理|总监|主任|同学|院长|校长|书记"
    "|局长|处长|科长|部长|市长|总裁|董事|董|主席|秘书|师傅|阿姨|叔叔|哥|姐"
)
NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    "|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
    "|hundred|thousand|million|billion|zero|half|dozen|quarter|percent|first|second|third|once|twice"
)
TIMES = (
    "monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february|april|june|july"
    "|august|september|october|november|december|today|tomorrow|yesterday|tonight|noon|midnight"
)
HAN_TIMES = (
    "今天|明天|昨天|前天|后天|今年|明年|去年|前年|凌晨|春节|国庆|(?:上午|下午|中午|晚上|早上)(?!好)"
)
IN_LATIN = r"(?<![A-Za-z0-9_])"
NO_LATIN = r"(?![A-Za-z0-9_])"

ADDRESS = (
    r"(?:https?://|www\.)[^\s<>\"'，。；）]+"
    r"|(?<![A-Za-z0-9_.+-])[A-Za-z0-9_.+-]{1,64}@[\w-]+(?:\.[\w-]+)+|@[\w-]+"
)
ID = (
    rf"{IN_LATIN}(?=[A-Za-z0-9_-]{{0,64}}[0-9])(?=[A-Za-z0-9_-]{{0,64}}[A-Za-z])[A-Za-z0-9_-]+"
    rf"{NO_LATIN}"
    rf"|{IN_LATIN}[A-Z][A-Z0-9]+{NO_LATIN}"
)
NUMBER = (
    r"[$€£¥￥]?[0-9０-９]+(?:[.,:/\-][0-9０-９]+)*[%％°‰]?"
    rf"|第?[{NUMERALS}]+(?:{LONG_MEASURES}|[{MEASURES}])"
    rf"|第[{NUMERALS}]+|百分之[{NUMERALS}]+|[{NUMERALS}]{{2,}}"
    rf"|[零〇一二三四五六七八九十]+点[{NUMERALS}]+"
    rf"|(?i:{IN_LATIN}(?:{NUMBER_WORDS}){NO_LATIN})"
)
TIME = rf"(?i:{IN_LATIN}(?:{TIMES}){NO_LATIN})|{HAN_TIMES}|(?:周|星期|礼拜)[一二三四五六日天]"
NAME = (
    rf"(?:[{SURNAMES}]|(?<![谢感多])谢(?!谢))[\u4e00-\u9fff]{{0,2}}?(?:{TITLES})|[老小阿][{SURNAMES}]"
    r"|《[^《》\n]{1,40}》|(?:我叫|名叫|姓)[\u4e00-\u9fff]{1,3}"
)
NEGATION = (
    r"不(?!客气|用谢|谢|好意思)|没|无|未|勿|莫|(?<![特区分级性个告类辨差])别(?![人的墅])|非(?!常)|否"
    rf"|(?i:{IN_LATIN}(?:not|no|never|nor|none|nothing|nobody|nowhere|neither|without|cannot|non)"
    rf"{NO_LATIN}|n\s?['’]\s?t{NO_LATIN})"
)
BEGINS = (
    rf"A-Za-z0-9_.+@$€£¥￥０-９\-{NUMERALS}{SURNAMES}第百谢老小阿《我名姓今明昨前后去上下中晚早凌春国周星礼"
    r"不没无未勿莫别非否"
)
"""Characters with which any of it begins: looking at one is quicker than trying everything."""
KEY = re.compile(rf"(?=[{BEGINS}])(?:{'|'.join((ADDRESS, ID, NUMBER, TIME, NAME, NEGATION))})")
CAPITALISED = re.compile(r"(?<![\w'’])[A-Z\u00c0-\u00de][\w'’-]*")
INSIDE = re.compile(r"[\w,;)'’][ \t]+\Z")
NO_NAMES = frozenset(
    re.split(
        " ",
        "i i'm i'll i'd i've i’m i’ll i’d i’ve ok okay o k oh ah eh uh um hmm mm mmm mm-hmm yeah "
        "yep yes right well so and but hi hello hey thank thanks alright sure got good great bye "
        "welcome",
    )
)
"""Words that are written with a capital inside a sentence and name nobody."""
Turn = Mapping[str, Any]


def keys(text: str) -> Counter[str]:
    """The key information of a text, each piece with how often it stands there."""
    return _fixed(text) + Counter(
        found[0]
        for found in CAPITALISED.finditer(text)
        if found[0].lower() not in NO_NAMES
        and INSIDE.search(text, max(0, found.start() - 4), found.start())
    )


def lost(before: str, after: str) -> list[str]:
    """The key information of `before` that stands less often in `after`, in the order of its text.

    A name counts as kept wherever it stands, since only inside a sentence capitals tell a name.
    """
    if before == after:
        return []
    there = _fixed(after) + Counter(CAPITALISED.findall(after))
    return list(keys(before) - there)


def turn_keys(turn: Turn) -> Counter[str]:
    """The key information of a canonical message: of its text, and each tool call as a whole."""
    content = turn.get("content")
    calls = (call["function"] for call in turn.get("tool_calls") or ())
    return keys(content if isinstance(content, str) else "") + Counter(
        f"{call['name']}({call['arguments']})" for call in calls
    )


def lost_from(before: Sequence[Turn], after: Sequence[Turn]) -> list[str]:
    """The key information of some messages that is nowhere in others.

    How often it stands there does not count: who says something twice may be quoted once.
    """
    missing: dict[str, None] = {}
    texts = [turn["content"] for turn in after if isinstance(turn.get("content"), str)]
    there = {key for turn in after for key in turn_keys(turn)}
    there.update(word for text in texts for word in CAPITALISED.findall(text))
    for turn in before:
        missing |= dict.fromkeys(key for key in turn_keys(turn) if key not in there)
    return list(missing)


def _fixed(text: str) -> Counter[str]:
    """The key information that does not depend on what stands around it."""
    found = (key[0].lower() for key in KEY.finditer(text))
    return Counter(key for key in found if key not in NO_NAMES)
