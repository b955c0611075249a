"""A user with a UUID, without a user name, and without a column that says whether it is active."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class AccountManager(BaseUserManager[Any]):
    def create_superuser(self, email: str, password: str) -> Any:
        account = self.model(email=email, is_staff=True, is_superuser=True)
        account.set_password(password)
        account.save()
        return account


class Account(AbstractBaseUser, PermissionsMixin):
    id: Any = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email: Any = models.EmailField(unique=True)
    is_staff: Any = models.BooleanField(default=False)

    USERNAME_FIELD = "email"

    objects = AccountManager()
