"""The worker's two handlers, with a second where they wait for half a minute before they try again."""

from lambda_worker import monolith_client, redelivery

monolith_client.AWAY_SECONDS = 1
redelivery.FIRST_RETRY_SECONDS = redelivery.MAX_RETRY_SECONDS = 1

from lambda_worker import dead_letter, handler  # noqa: E402 - they take over what is set above

handle_message = handler.handler
handle_dead_letter = dead_letter.handler
