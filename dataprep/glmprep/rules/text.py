"""Rules on the text of messages, over the message table (see `glmprep.table`)."""

from __future__ import annotations

from glmprep.rules.format import MessageRule

TEXT_RULES: tuple[MessageRule, ...] = ()
