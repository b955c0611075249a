"""A user without a user name."""

from __future__ import annotations

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
    email: Any = models.EmailField(unique=True)
    is_staff: Any = models.BooleanField(default=False)
    is_active: Any = models.BooleanField(default=True)

    USERNAME_FIELD = "email"

    objects = AccountManager()
