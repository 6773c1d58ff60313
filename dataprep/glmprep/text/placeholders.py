"""Placeholders of a template that nobody filled in, such as `{{name}}`."""

from __future__ import annotations

import re

from glmprep.text.spots import Spot, outside_code

NAMES = (
    "name|user_?name|first_?name|last_?name|author|company|company_?name|model_?name|bot_?name|"
    "assistant_?name|question|answer|instruction|context|query|city|product_?name"
)
SCREEN = rf"\{{\{{|<[A-Z]{{4}}|\{{(?i:{NAMES})\}}"
"""Every text with a placeholder has one of these."""
TEMPLATES = re.compile(
    r"(?i)\{%|\{\{[#/^>]|jinja|mustache|handlebars|liquid|angular|\bvue\b|latex|\\[a-z]+\{|f\"|f'|\.format|"
    r"template|placeholder|模板|占位符"
)
"""Who writes this means the braces: code, formulas, or talk about templates."""
_find = outside_code(
    rf"(?<!\$)\{{\{{ ?[A-Za-z_\u4e00-\u9fff][\w. -]{{0,40}}\}}\}}"
    rf"|(?<!\$)\{{(?i:{NAMES})\}}"
    r"|<(?:NAME|AUTHOR|USER_?NAME|COMPANY(?:_NAME)?|MODEL_NAME|BOT_NAME)>"
)


def find(text: str) -> Spot | None:
    """The first placeholder, None where there is none or the text is about such things."""
    return None if TEMPLATES.search(text) else _find(text)
