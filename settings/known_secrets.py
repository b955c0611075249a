"""The secrets of `settings.local`. Everybody knows them, so `settings.production` takes none of them."""

SECRET_KEY = "local-development-only"  # noqa: S105 - public on purpose, see above
WORKER_SECRET = "local-worker-secret-on-loopback-only"  # noqa: S105 - as above
WEBHOOK_SECRET = "whsec_bG9jYWwtd2ViaG9vay1zZWNyZXQtb24tbG9vcGJhY2s="  # noqa: S105 - as above
