"""The parameter `notify` of an upload: who gets emails about the job in addition to its submitter, or `none`.

By default, no other address is allowed. An email quotes the reasons why rows were rejected, and these can quote the
rows. So a submitter who may name any address could send any text to anybody. The setting NOTIFY_DOMAINS therefore
lists the domains that are allowed. The submitter's own domain would not be a safe default, because it may belong to
an email provider with millions of other users.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError as BadValue
from django.core.validators import validate_email
from django.utils.translation import gettext as _
from rest_framework import serializers

from bulk_import.conf import conf
from bulk_import.models import NOTIFY_NOBODY

MAX_ADDRESS_CHARACTERS = 254
"""Maximum length of an email address. RFC 5321 allows 256 characters including the angle brackets."""

MAX_ADDRESSES = 5
"""Maximum number of addresses in an upload. Five are enough for a team, and too few for sending bulk email."""


class RecipientsField(serializers.Field[str, str, str, Any]):
    """Accepts `none`, or addresses separated by commas, and returns what `ImportJob.notify` stores.

    The serializer's context must contain the request.
    """

    def to_internal_value(self, data: str) -> str:
        if data.strip() == NOTIFY_NOBODY:
            return NOTIFY_NOBODY
        own = getattr(self.context["request"].user, "email", "").lower()
        named = {address.lower(): address for address in map(str.strip, data.split(","))}
        if own:
            named.pop(own, None)  # the submitter gets an email anyway
        if len(named) > MAX_ADDRESSES:
            message = _("You can name up to %(limit)d addresses.") % {"limit": MAX_ADDRESSES}
            raise serializers.ValidationError(message, code="too_many_addresses")
        for address in named.values():
            check_address(address)
        return ",".join(named.values())


def check_address(address: str) -> None:
    """Raise ValidationError if this is not an email address, or if its domain is not allowed.

    The message does not quote the address.
    """
    try:
        validate_email(address)
    except BadValue:
        is_address = False
    else:
        # The part before the @ may be a quoted string with nearly any characters. Nobody needs such an address.
        is_address = '"' not in address and len(address) <= MAX_ADDRESS_CHARACTERS
    if not is_address:
        message = _("Enter email addresses separated by commas, or “none” for no emails.")
        raise serializers.ValidationError(message, code="invalid_address")
    domain = address.rpartition("@")[2].lower()
    if domain not in {allowed.lower() for allowed in conf().notify_domains}:
        message = _("Emails to addresses of this domain are not allowed.")
        raise serializers.ValidationError(message, code="domain_not_allowed")
