"""`notify=` of a submission: whom to mail about the job beside its submitter, or nobody.

By default no address may be named. A reason why a row was refused can quote the row, so whoever names an address
chooses what it is sent; therefore the monolith's developers say in NOTIFY_DOMAINS whose mailboxes that may be. The
submitter's own domain is no safe default: it may be a mail provider, whose other users are strangers.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError as BadValue
from django.core.validators import validate_email
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import serializers

from bulk_import.conf import conf
from bulk_import.models import NOTIFY_NOBODY

MAX_ADDRESS_CHARACTERS = 254
"""What SMTP can carry: RFC 5321's 256 with the angle brackets."""


class RecipientsField(serializers.Field[str, str, str, Any]):
    """`none`, or addresses with commas between; the text that `ImportJob.notify` keeps. Needs the request."""

    def to_internal_value(self, data: str) -> str:
        if data.strip() == NOTIFY_NOBODY:
            return NOTIFY_NOBODY
        own = getattr(self.context["request"].user, "email", "").lower()
        named = {address.lower(): address for address in map(str.strip, data.split(","))}
        if own:
            named.pop(own, None)  # the submitter is mailed anyhow
        if len(named) > conf().max_notify:
            message = ngettext(
                "At most %(limit)d address can be notified.",
                "At most %(limit)d addresses can be notified.",
                conf().max_notify,
            )
            raise serializers.ValidationError(message % {"limit": conf().max_notify}, code="too_many_addresses")
        for address in named.values():
            check_address(address)
        return ",".join(named.values())


def check_address(address: str) -> None:
    """Raises ValidationError unless it is an address that may be named; the message does not quote it."""
    try:
        validate_email(address)
    except BadValue:
        is_address = False
    else:
        # In quotes, nearly anything is an address.
        is_address = '"' not in address and len(address) <= MAX_ADDRESS_CHARACTERS
    if not is_address:
        message = _("Give e-mail addresses with commas between, or “none” for no mail at all.")
        raise serializers.ValidationError(message, code="invalid_address")
    domain = address.rpartition("@")[2].lower()
    if domain not in {allowed.lower() for allowed in conf().notify_domains}:
        message = _("Addresses of this domain cannot be notified.")
        raise serializers.ValidationError(message, code="domain_not_allowed")
