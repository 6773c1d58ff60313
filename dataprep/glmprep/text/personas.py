"""Who a text says that the model is: names and makers, claimed in the first or second person.

Precision comes before recall. A name counts where it is a known assistant's, a placeholder such as
`{{name}}`, or is called an assistant in the same sentence; so neither `我是女生` nor a character of
a role play claims anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

Person = Literal["I", "you"]


class Claim(NamedTuple):
    """That the model is called `label`, or was made by it."""

    kind: Literal["name", "maker"]
    label: str


ASSISTANTS = {
    "ChatGLM": r"chatglm[\w.-]*|glm-?[45][\w.-]*|智谱清言",
    "ChatGPT": r"chat ?gpt[\w.-]*|gpt-?[345][\w.-]*",
    "Claude": r"claude",
    "Copilot": r"(?:microsoft )?copilot",
    "DeepSeek": r"deepseek[\w.-]*",
    "Doubao": r"豆包|doubao",
    "ERNIE": r"文心一言|ernie bot",
    "Gemini": r"(?:google )?gemini|google bard",
    "Grok": r"grok",
    "Hunyuan": r"(?:腾讯)?混元(?:大模型)?|腾讯元宝|hunyuan[\w.-]*",
    "InternLM": r"书生[·・]?浦语|internlm[\w.-]*",
    "Kimi": r"kimi",
    "Llama": r"llama[\w.-]*",
    "Qwen": r"通义千问|千问|通义|qwen[\w.-]*",
    "Spark": r"讯飞星火|星火认知大模型",
    "Vicuna": r"vicuna[\w.-]*",
}
MAKERS = {
    "Alibaba": r"阿里巴巴|阿里云|达摩院|alibaba(?: cloud)?",
    "Anthropic": r"anthropic",
    "Baidu": r"百度|baidu",
    "ByteDance": r"字节跳动|bytedance",
    "DeepSeek": r"深度求索|deepseek",
    "Google": r"谷歌|google(?: deepmind)?|deepmind",
    "iFlytek": r"科大讯飞|讯飞|iflytek",
    "Meta": r"meta(?: ai)?|facebook",
    "Microsoft": r"微软|microsoft",
    "Moonshot AI": r"月之暗面|moonshot(?: ai)?",
    "OpenAI": r"open ?ai",
    "Tencent": r"腾讯|tencent",
    "Zhipu AI": r"智谱(?: ?ai|华章)?|清华大学|zhipu(?: ?ai)?|thudm|z\.ai",
}
OWN = frozenset({Claim("name", "ChatGLM"), Claim("maker", "Zhipu AI")})
"""Who a GLM model is before it is trained further."""
OTHERS = (
    frozenset(
        {Claim("name", name) for name in ASSISTANTS} | {Claim("maker", maker) for maker in MAKERS}
    )
    - OWN
)
"""Who it is not."""

PLACEHOLDER = r"\{\{ ?\w+ ?\}\}"
NAME = f"(?:{'|'.join(ASSISTANTS.values())}|{PLACEHOLDER})"
MAKER = f"(?:{'|'.join(MAKERS.values())}|{PLACEHOLDER})"
KIND = (
    r"(?:助手|助理|语言模型|大模型|机器人|人工智能|智能体"
    r"|\b(?:AI|assistant|chat ?bot|language model)\b)"
)
MADE = r"(?:开发|训练|研发|研制|创建|创造|发明|打造|推出|设计)"
MADE_BY = r"\b(?:developed|created|trained|built|made|designed|invented)(?: and \w+)? by "
OPEN, CLOSE = '[“"「『《*]*', '[”"」』》*]*'
AN = "一[个款名位种]"
END = rf"(?={CLOSE}(?:$|[\s，,.、；;：:）)'’]|{AN}|由|是|的?(?:人工智能|智能|AI)?{KIND}))(?! [A-Z])"

SELF = {
    "I": r"(?:我是|我叫|我的名字[是叫]|叫我|称呼我为|作为|\bI am\b|\bI['’]m\b|\b[Mm]y name is\b"
    r"|\bcall me\b|\b[Aa]s\b|我(?=由)|\bI was\b)",
    "you": r"(?:[你您]是|[你您]叫|[你您]的名字[是叫]|作为|\b[Yy]ou are\b|\b[Yy]ou['’]re\b"
    r"|\b[Yy]our name is\b|\b[Aa]s\b)",
}
CLAIM = {
    person: re.compile(rf"(?<![“\"「『])(?:{word})\s*(?P<said>(?:[^。！？!?\n.]|\.(?=\w))*)")
    for person, word in SELF.items()
}
"""What is said of oneself, or to the model, up to the sentence's end."""
KNOWN_NAME = re.compile(
    rf"(?:由? ?[^，。]{{1,20}}{MADE}的 ?(?:大型)?{KIND}? ?)?{OPEN}({NAME}){END}", re.I
)
GIVEN_NAME = re.compile(
    rf"{OPEN}((?!AI|人工|[一个由您你来])[\w·]{{2,12}}){CLOSE} ?[，,] ?是?(?:[您你]的|{AN}|由)"
    r"|([A-Z][\w-]{1,20}), (?:an?|the|your) "
)
KNOWN_MAKER = re.compile(
    rf"(?:由|^|[，,]) ?({MAKER})[^，。]{{0,20}}{MADE}|{MADE_BY}({MAKER})(?!\w)", re.I
)
GIVEN_MAKER = re.compile(
    rf"由 ?([\w·]{{2,16}}?)(?:公司|团队|实验室)? ?(?:独立|自主)?{MADE}的"
    rf"|{MADE_BY}([A-Z][\w&-]*(?: [A-Z][\w&-]*){{0,2}})"
)
MODEL = re.compile(KIND, re.I)
HINTS = (
    *("{{", "助手", "助理", "模型", "机器人", "智能", "AI", "assistant", "chatbot", "chat bot"),
    *("gpt", "glm", "清言", "claude", "copilot", "deepseek", "豆包", "doubao", "文心一言", "ernie"),
    *("gemini", "bard", "grok", "混元", "元宝", "hunyuan", "书生", "internlm", "kimi", "llama"),
    *("千问", "通义", "qwen", "讯飞", "星火", "vicuna", "阿里", "达摩院", "alibaba", "anthropic"),
    *(
        "百度",
        "baidu",
        "字节跳动",
        "bytedance",
        "深度求索",
        "谷歌",
        "google",
        "deepmind",
        "iflytek",
    ),
    *("meta", "facebook", "微软", "microsoft", "月之暗面", "moonshot", "openai", "open ai", "腾讯"),
    *("tencent", "智谱", "清华", "zhipu", "thudm", "z.ai", "language model"),
)
"""A text that holds none of these, in capitals or not, claims nothing."""
ALIASES: Mapping[str, Mapping[str, re.Pattern[str]]] = {
    kind: {label: re.compile(words, re.I) for label, words in table.items()}
    for kind, table in (("name", ASSISTANTS), ("maker", MAKERS))
}


def claims(text: str, person: Person) -> set[Claim]:
    """Who the text says that the model is, as `I` or as `you`."""
    return {claim for found in CLAIM[person].finditer(text) for claim in _claims(found["said"])}


def _claims(said: str) -> Iterator[Claim]:
    model = bool(MODEL.search(said))
    named = KNOWN_NAME.match(said) or (GIVEN_NAME.match(said) if model else None)
    if named:
        yield _claim("name", named)
    made = KNOWN_MAKER.search(said) or (GIVEN_MAKER.search(said) if model else None)
    if made:
        yield _claim("maker", made)


def _claim(kind: Literal["name", "maker"], found: re.Match[str]) -> Claim:
    """The claim with the label under which the name is known, or as it stands there."""
    written = next(group for group in found.groups() if group)
    for label, words in ALIASES[kind].items():
        if words.fullmatch(written):
            return Claim(kind, label)
    return Claim(kind, written.replace(" ", "") if written.startswith("{{") else written)
