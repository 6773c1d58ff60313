"""Rules on personal data and secrets, in all that a message says (see `glmprep.text.sensitive`).

Excerpts never show what was found whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from glmprep.findings import Severity, rule
from glmprep.rules.format import MessageRule
from glmprep.table import said
from glmprep.text import sensitive
from glmprep.text.sensitive import Kind
from glmprep.text.spots import Find, confirmed, holds


@rule("DF314", Severity.WARNING)
def phone_number() -> pl.Expr:
    """Text has a phone number.

    Evidence: messages with a phone number: {count}, in {rows} of the conversations.
    Why: a model can repeat what it was trained on, word for word, to anyone.
    Fix: replace numbers of people by made-up ones; numbers of shops and offices may stay.
    """
    return _holds(sensitive.PHONE)


@rule("DF315", Severity.WARNING)
def email_address() -> pl.Expr:
    """Text has an e-mail address.

    Evidence: messages with an e-mail address: {count}, in {rows} of the conversations; those at
    example.com and the like do not count.
    Why: a model can repeat what it was trained on, word for word, to anyone.
    Fix: replace addresses of people by ones at example.com.
    """
    return _holds(sensitive.EMAIL)


@rule("DF316", Severity.WARNING)
def id_card_number() -> pl.Expr:
    """Text has the number of a Chinese identity card.

    Evidence: messages with an 18-digit number whose date and check digit are right: {count}, in
    {rows} of the conversations.
    Why: the number names one person; training on it is hardly ever lawful, and the model can
    repeat it to anyone.
    Fix: remove the numbers before the data goes anywhere.
    """
    return _holds(sensitive.ID_CARD)


@rule("DF317", Severity.WARNING)
def bank_card_number() -> pl.Expr:
    """Text has the number of a bank card.

    Evidence: messages with a card number whose check digit is right: {count}, in {rows} of the
    conversations.
    Why: a model can repeat what it was trained on, word for word, to anyone.
    Fix: remove the numbers before the data goes anywhere.
    """
    return _holds(sensitive.BANK_CARD)


@rule("DF318", Severity.WARNING)
def secret_key() -> pl.Expr:
    """Text has an access key.

    Evidence: messages with an API key, an access token or a private key: {count}, in {rows} of
    the conversations.
    Why: whoever has the model or the data may use the key in its owner's name.
    Fix: revoke the keys first, then replace them in the data by made-up ones.
    """
    return _holds(sensitive.KEY)


PRIVACY_RULES: tuple[MessageRule, ...] = (
    phone_number,
    email_address,
    id_card_number,
    bank_card_number,
    secret_key,
)
FINDS: Mapping[str, Find] = {
    phone_number.id: sensitive.PHONE.find,
    email_address.id: sensitive.EMAIL.find,
    id_card_number.id: sensitive.ID_CARD.find,
    bank_card_number.id: sensitive.BANK_CARD.find,
    secret_key.id: sensitive.KEY.find,
}


def _holds(kind: Kind) -> pl.Expr:
    return confirmed(holds(said(), *kind.screen), kind.find, said())
