"""The secrets of `settings.local`. They are public, so `settings.production` refuses them."""

SECRET_KEY = "local-development-only"  # noqa: S105 - public on purpose
WORKER_SECRET = "local-worker-secret-on-loopback-only"  # noqa: S105 - public on purpose
TOKEN_KEY = "local-token-key-on-loopback-only"  # noqa: S105 - public on purpose
WEBHOOK_SECRET = "whsec_bG9jYWwtd2ViaG9vay1zZWNyZXQtb24tbG9vcGJhY2s="  # noqa: S105 - public on purpose
