"""The tenants of a site that keeps the tables of each tenant in a schema of its own, with django-tenants."""

from __future__ import annotations

from typing import Any

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin  # type: ignore[import-not-found] # only its site has it


class Tenant(TenantMixin):  # type: ignore[misc] # as above
    name: Any = models.CharField(max_length=20)


class Domain(DomainMixin):  # type: ignore[misc] # as above
    pass
