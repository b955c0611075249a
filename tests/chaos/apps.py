"""The Django app of the chaos runs. It shortens times of the monolith that are not settings, so that runs end soon."""

from datetime import timedelta
from pathlib import Path

from django.apps import AppConfig


class HurryConfig(AppConfig):
    name = "tests.chaos"
    label = "chaos"
    path = str(Path(__file__).parent)

    def ready(self) -> None:
        """Shorten the times. The modules are imported here, because they need complete settings."""
        from bulk_import import conf  # noqa: PLC0415 - see above
        from bulk_import.models import lost_messages  # noqa: PLC0415 - see above

        conf.NUMBERS -= {"max_pause_hours"}  # so that the longest pause can be a few seconds
        lost_messages.MESSAGE_TIMEOUT = timedelta(seconds=5)  # longer than the delay of any message
